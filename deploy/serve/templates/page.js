"use strict";

const drop = document.getElementById("drop");
const input = document.getElementById("photo");
const shown = document.getElementById("shown");
const status = document.getElementById("status");
const answers = document.getElementById("answers");
let asked = 0;

input.addEventListener("change", () => input.files.length && ask(input.files[0]));
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, event => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", event => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
});

async function ask(photo) {
  const turn = ++asked;  // an older answer must not replace a newer one
  URL.revokeObjectURL(shown.src);
  shown.src = URL.createObjectURL(photo);
  shown.hidden = false;
  answers.replaceChildren();
  say("Asking …");
  try {
    const response = await fetch("/predict?top=5", { method: "POST", body: photo });
    const body = await response.json();
    if (turn !== asked) return;
    if (!response.ok) return say(body.error, true);
    answers.replaceChildren(...body.models.map(card));
    say(`${photo.name}: ${body.models[0].known ? body.models[0].guesses[0].label : "unknown"}`);
  } catch (error) {
    if (turn === asked) say(`The server did not answer (${error.message}).`, true);
  }
}

function say(words, wrong = false) {
  status.textContent = words;
  status.classList.toggle("wrong", wrong);
}

function card(answer) {
  const section = element("section");
  section.append(element("h2", answer.model), element("p", times(answer), "times"));
  if (!answer.known) section.append(element("p", "Unknown: no label is likely enough.", "unknown"));
  const list = element("ol");
  list.append(...answer.guesses.map(row));
  section.append(list);
  return section;
}

function row(guess) {
  const item = element("li");
  const bar = element("progress");
  bar.value = guess.score;
  bar.setAttribute("aria-hidden", "true");
  item.append(bar, element("span", guess.label), element("span", `${(100 * guess.score).toFixed(1)} %`, "score"));
  return item;
}

function times(answer) {
  const ms = seconds => `${(1000 * seconds).toFixed(1)} ms`;
  return `prepare ${ms(answer.prepare_s)}, wait ${ms(answer.queue_s)}, run ${ms(answer.run_s)}`;
}

function element(name, words = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = words;
  if (kind) made.className = kind;
  return made;
}
