"""The programs that stacks.py starts, each with the environment that it needs."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from tiffin.benchmarks.studies.coldstart import API, BEGIN, END, ENGINE

REQUIREMENTS = Path(__file__).parents[1] / "peers" / "requirements"

# As Optimum's documentation has it, with the threads that the others have.
OPTIMUM = {
    "onnxruntime": """
import onnxruntime
from optimum.onnxruntime import ORTModelForImageClassification
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
classifier = ORTModelForImageClassification.from_pretrained(model, session_options=options)
""",
    "openvino": """
from optimum.intel import OVModelForImageClassification
config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": int(threads)}
classifier = OVModelForImageClassification.from_pretrained(model, export=False, ov_config=config)
""",
}
OPTIMUM_END = """
from transformers import AutoImageProcessor
processor = AutoImageProcessor.from_pretrained(model, use_fast=False)
image = Image.open(photo)
logits = classifier(**processor(images=image, return_tensors="pt")).logits[0].numpy().astype(np.float64)
powers = np.exp((logits - logits.max()) / about["temperature"])
best = int(logits.argmax())
print(json.dumps([classifier.config.id2label[best], powers[best] / powers.sum()]), flush=True)
"""
# It tells of its doings on the standard output.
ULTRALYTICS = """
import json, sys
model, photo, size = sys.argv[1:]
answers, sys.stdout = sys.stdout, sys.stderr
from ultralytics import YOLO
classifier = YOLO(model, task="classify")
found = classifier.predict(photo, imgsz=int(size), device="cpu", verbose=False)[0].probs
sys.stdout = answers
print(json.dumps([classifier.names[found.top1], float(found.top1conf)]), flush=True)
"""
# Behind the answer. A process that another starts inherits the peak that wait4 tells, but not this one.
TELL = """
import time
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
print(json.dumps([time.process_time(), int(peak) * 1024]), flush=True)
"""


@dataclass(frozen=True)
class Stack:
    """One way to deploy on an engine, in the environment of its requirements.

    Args:
        told: the distributions whose versions its row names.
        words: for pip, beside the requirements.
    """

    name: str
    engine: str
    told: tuple[str, ...]
    words: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """In the record."""
        return f"{self.engine} {self.name}"

    def requirements(self, wheel: Path) -> tuple[str, ...]:
        """What pip is asked for: Tiffin with the pins of the script's environment."""
        pins = self._pins()
        return (*self.words, *([f"{wheel}[{self.engine}]"] if self.name == "tiffin" else []), "-r", str(pins))

    def key(self, wheel: Path) -> str:
        """Of what is installed: an environment of another key is made again."""
        parts = [sys.version.encode(), self._pins().read_bytes(), repr(self.words).encode()]
        parts += [wheel.read_bytes()] if self.name == "tiffin" else []
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def _pins(self) -> Path:
        return REQUIREMENTS / f"stack_{'script' if self.name == 'tiffin' else self.name}_{self.engine}.txt"

    def program(self, input_name: str) -> str:
        """The script that answers one photo, then tells its processor seconds and peak bytes."""
        answer = {
            "script": BEGIN + ENGINE[self.engine].replace("PHOTOS", input_name) + END,
            "tiffin": API,
            "optimum": BEGIN + OPTIMUM[self.engine] + OPTIMUM_END,
            "ultralytics": ULTRALYTICS,
        }[self.name]
        return answer + TELL


STACKS = (
    Stack("tiffin", "onnxruntime", ("tiffin", "onnxruntime")),
    Stack("script", "onnxruntime", ("onnxruntime", "pillow")),
    Stack("optimum", "onnxruntime", ("optimum-onnx", "transformers", "torch")),
    Stack("ultralytics", "onnxruntime", ("ultralytics", "torch", "torchvision")),
    Stack("tiffin", "openvino", ("tiffin", "openvino")),
    Stack("script", "openvino", ("openvino", "pillow")),
    # Its list is whole but for torchvision, which is not asked for here and has no build beside a CPU's torch.
    Stack("optimum", "openvino", ("optimum-intel", "transformers", "torch"), ("--no-deps",)),
)
