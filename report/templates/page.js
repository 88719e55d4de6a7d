// Paper cannot be clicked: what is closed on the screen is printed open.
(function () {
  "use strict";
  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    opened.forEach(function (one) { one.open = true; });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (one) { one.open = false; });
    opened = [];
  });
})();
(function () {
  "use strict";
  var form = document.getElementById("filters");
  if (!form) return;
  var photos = Array.prototype.slice.call(document.querySelectorAll(".photo"));
  var count = document.getElementById("count");
  form.hidden = false;
  function wanted(name) {
    var field = form.elements[name];
    return field ? field.value : "";
  }
  function show() {
    var chosen = { artifact: wanted("artifact"), kind: wanted("kind"), stage: wanted("stage") };
    var label = wanted("class"), shown = 0, answers = 0;
    photos.forEach(function (photo) {
      var inClass = !label || photo.dataset.class.split(" ").indexOf(label) >= 0, left = 0;
      Array.prototype.forEach.call(photo.querySelectorAll(".flip"), function (flip) {
        var fits = inClass && Object.keys(chosen).every(function (key) {
          return !chosen[key] || flip.dataset[key] === chosen[key];
        });
        flip.hidden = !fits;
        left += fits ? 1 : 0;
      });
      photo.hidden = left === 0;
      shown += left ? 1 : 0;
      answers += left;
    });
    count.textContent = shown + " of " + photos.length + " photos, " + answers + " changed answers";
  }
  // One artifact at first: the one that the page is about. "Show all" shows all.
  var first = form.elements.artifact;
  if (first && form.dataset.focus) first.value = form.dataset.focus;
  if (first && !first.value) first.value = "";
  form.addEventListener("change", show);
  form.addEventListener("reset", function () { setTimeout(show, 0); });
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  show();
})();
