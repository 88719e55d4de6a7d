# Two commands do all set-up on a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo

# Photos beside the checkout are used where there are any; else `tiffin` looks further (see README).
ifndef TIFFIN_DATA
ifneq ($(wildcard ../shared/grocery-store),)
export TIFFIN_DATA := $(abspath ../shared/grocery-store)
endif
endif

.PHONY: demo test slow lint records student train-features train-again average matrix drops sources fastest peers cpus tensorrt gpu believe evidence device stacks quantizable everything clean

demo: $(VENV)/installed  ## checkpoint to a table of backends and precisions
	$(BIN)/tiffin demo --out $(OUT) $(ARGS)

# Neighbours stay together: a file's fixtures are built once, or twice where a process that is done takes its last tests.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist worksteal

test: $(VENV)/installed  ## the tests, in up to four processes
	$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE) $(ARGS)

slow: $(VENV)/installed  ## tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/installed  ## style, types, floors, Python 3.10 on the device rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/tiffin
	MYPYPATH=$(VENV)/types $(BIN)/mypy -p tiffin
	$(BIN)/lint-imports --no-logo
	$(BIN)/vermin -q --no-tips --violations -t=3.10- --eval-annotations \
	  __init__.py errors.py machine.py words.py artifact records runtime data cli optimize/proof.py deploy \
	  benchmarks/*.py benchmarks/workers benchmarks/emulation \
	  export/engine*.py export/onnx_source.py export/to_tensorrt.py \
	  $(filter-out %torch.py %torch_ops.py %fake_quant.py,$(wildcard export/graph/*.py))

RESULTS := benchmarks/results
STUDIES := benchmarks/studies
BUILT := out/full/artifacts

records: $(VENV)/installed  ## regenerate the records of README's table and five commands (half an hour, quiet machine)
	$(BIN)/tiffin demo --full --out out/full
	$(BIN)/python $(STUDIES)/without_logits.py out/full/record.json $(RESULTS)/default.json
	$(BIN)/tiffin export --out out/fp32
	cp out/fp32/claims/parity.json $(RESULTS)/parity.json
	$(BIN)/tiffin bench $(BUILT)/fp32 $(BUILT)/fp16 $(BUILT)/int8-cpu-ort $(BUILT)/openvino-fp32 \
	  $(BUILT)/openvino-int8-cpu-nncf --out $(RESULTS)/five.json
	$(BIN)/python $(STUDIES)/readme.py README.md $(RESULTS)/default.json

STUDENT := efficientnet-lite0-grocery-192

student: $(VENV)/installed  ## train the shipped 192-pixel student again (an hour on one core)
	$(BIN)/tiffin distill --size 192 --out out/student/$(STUDENT).safetensors
	cp out/student/$(STUDENT).safetensors out/student/$(STUDENT).json train/weights/

train-features: $(VENV)/installed  ## fit a head on ImageNet's features; the record and table of docs/train.md (minutes)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[zoo]'
	$(BIN)/tiffin train --mode features --held-out 0.1 --out out/train/features.safetensors
	$(BIN)/python $(STUDIES)/training.py out/train/features.json $(RESULTS)/train-features.json
	$(BIN)/python $(STUDIES)/training.py --table docs/train.md $(RESULTS)/train-*.json

MADE := out/train
SHIPPED := train/weights/efficientnet-lite0-grocery.safetensors

train-again: $(VENV)/installed  ## train the shipped classifier again by its recipe; the record and table of docs/train.md (an hour on two cores, goes on where it was cut)
	$(BIN)/tiffin train --score-test --out $(MADE)/again.safetensors
	$(BIN)/python $(STUDIES)/training.py $(MADE)/again.json $(RESULTS)/train-again.json
	$(BIN)/python $(STUDIES)/training.py --table docs/train.md $(RESULTS)/train-*.json

average: $(VENV)/installed  ## average the shipped weights with two more trainings and compare; records and tables of docs/train.md (40 minutes on two cores, after `make train-again`)
	$(BIN)/tiffin train --seed 1 --epochs 20 --out $(MADE)/seed1.safetensors
	$(BIN)/tiffin average $(SHIPPED) $(MADE)/again.safetensors $(MADE)/seed1.safetensors --score-test \
	  --out $(MADE)/average.safetensors
	for name in seed1 average; do \
	  $(BIN)/python $(STUDIES)/training.py $(MADE)/$$name.json $(RESULTS)/train-$$name.json; done
	$(BIN)/python $(STUDIES)/training.py --table docs/train.md $(RESULTS)/train-*.json
	$(BIN)/tiffin export --out $(MADE)/shipped
	for name in again average; do $(BIN)/tiffin export $(MADE)/$$name.safetensors --out $(MADE)/$$name; done
	$(BIN)/tiffin score $(MADE)/shipped $(MADE)/again $(MADE)/average --out $(MADE)/score.json
	$(BIN)/python $(STUDIES)/without_logits.py $(MADE)/score.json $(RESULTS)/average.json
	$(BIN)/python $(STUDIES)/readme.py docs/train.md $(RESULTS)/average.json
	$(BIN)/python $(STUDIES)/training.py --paired docs/train.md $(RESULTS)/average.json

matrix: $(VENV)/installed  ## what docs/zoo.md's table lacks: train, convert, quantize and compare each network (hours on one core, goes on where it was cut; ARGS=--anew: all of it again)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[zoo]'
	$(BIN)/python $(STUDIES)/matrix.py $(TIFFIN_DATA) $(RESULTS)/matrix.json $(ARGS)
	$(BIN)/python $(STUDIES)/matrix.py --table docs/zoo.md $(RESULTS)/matrix.json

drops: $(VENV)/installed  ## what int8 costs networks that are trained longer, over all their test photos; table of docs/zoo.md (two hours on one core, goes on where it was cut; ARGS=--anew: all of it again)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[zoo]'
	$(BIN)/python $(STUDIES)/drops.py $(TIFFIN_DATA) $(RESULTS) $(ARGS)
	$(BIN)/python $(STUDIES)/drops.py --table docs/zoo.md $(RESULTS)

ENVIRONMENTS := out/sources/environments

sources: $(VENV)/installed  ## what docs/sources.md's table lacks: networks of timm, torchvision and Keras, in two environments of their own (8 GB; an hour on two cores, goes on where it was cut; ARGS=--anew: all of it again)
	$(PYTHON) -m venv $(ENVIRONMENTS)/torch
	$(ENVIRONMENTS)/torch/bin/python -m pip install -q --disable-pip-version-check -e '.[build,onnxruntime,openvino,hf]' \
	  torchvision timm pytest hypothesis
	$(PYTHON) -m venv $(ENVIRONMENTS)/tensorflow
	$(ENVIRONMENTS)/tensorflow/bin/python -m pip install -q --disable-pip-version-check tensorflow tf2onnx
	export TIFFIN_TENSORFLOW_PYTHON=$(CURDIR)/$(ENVIRONMENTS)/tensorflow/bin/python; \
	  $(ENVIRONMENTS)/torch/bin/python -m pytest -q tests/test_sources.py -k "by_its_name or keras" && \
	  $(ENVIRONMENTS)/torch/bin/python $(STUDIES)/sources.py $(TIFFIN_DATA) $(RESULTS)/sources.json $(ARGS)
	$(BIN)/python $(STUDIES)/sources.py --table docs/sources.md $(RESULTS)/sources.json

fastest: $(VENV)/installed  ## regenerate the records of docs/optimize.md and docs/int8.md (an hour, after `make records`)
	$(BIN)/tiffin quantize $(BUILT)/fp32 --method qat --out out/qat/int8-qat
	$(BIN)/tiffin quantize $(BUILT)/fp32 --calibrate data-free --out out/qat/int8-data-free
	$(BIN)/tiffin optimize --also train/weights/$(STUDENT).safetensors --also out/qat/int8-qat --out out/optimize
	for kind in search confirm; do for ending in json npz; do \
	  cp out/optimize/$$kind.$$ending $(RESULTS)/optimize-$$kind.$$ending; done; done
	$(BIN)/python $(STUDIES)/schemes.py $(BUILT)/fp32 $(TIFFIN_DATA) $(RESULTS)/schemes.json
	$(BIN)/python $(STUDIES)/techniques.py $(BUILT)/fp32 $(TIFFIN_DATA) $(RESULTS)/techniques.json
	$(BIN)/tiffin sensitivity $(BUILT)/fp32 $(BUILT)/int8-cpu-ort --out $(RESULTS)/sensitivity.json
	$(BIN)/tiffin roofline $(BUILT)/openvino-fp32 --out $(RESULTS)/roofline.json

peers: $(VENV)/installed  ## what others' quantizers make, beside ours, and docs/peers.md's table (after `make fastest`)
	$(BIN)/python benchmarks/peers/compare.py $(BUILT)/fp32 out/optimize/artifacts/$(STUDENT:-192=)-int8-cpu-ort@openvino \
	  out/qat/int8-qat@openvino out/qat/int8-data-free@openvino out/optimize/artifacts/$(STUDENT)-openvino \
	  out/optimize/artifacts/$(STUDENT)-int8-cpu-ort-openvino --launches 6 \
	  --without nncf_accuracy_control optimum_default --out $(RESULTS)/peers-quantizers.json
	$(BIN)/python benchmarks/peers/table.py docs/peers.md $(RESULTS)/peers-quantizers.json

CPUS := out/cpus

cpus: $(VENV)/installed  ## regenerate the records of docs/cpus.md (QEMU; three hours on one core, goes on where it was cut)
	$(BIN)/tiffin emulate setup cortex-a72
	$(BIN)/tiffin emulate setup cortex-a76
	$(BIN)/tiffin export --out $(CPUS)/fp32
	for scheme in cpu cpu-vnni cpu-u8 tensorrt; do \
	  $(BIN)/tiffin quantize $(CPUS)/fp32 --scheme $$scheme --out $(CPUS)/int8-$$scheme; done
	$(BIN)/tiffin certify $(CPUS)/int8-cpu@openvino $(CPUS)/int8-cpu-vnni@openvino $(CPUS)/int8-tensorrt@openvino \
	  $(CPUS)/int8-cpu-u8@openvino --isa sse41,avx2,avx512,vnni,bf16,amx --cpu haswell --threads 1 \
	  --out $(CPUS)/cpus-openvino.json
	$(BIN)/tiffin certify $(CPUS)/int8-cpu $(CPUS)/int8-cpu-vnni --isa avx2,vnni \
	  --cpu haswell,nehalem,cortex-a76 --threads 1 --out $(CPUS)/cpus-onnxruntime.json
	$(BIN)/tiffin certify $(CPUS)/int8-cpu --cpu cortex-a76,cortex-a72 --all --threads 1 --out $(CPUS)/cpus-arm.json
	$(BIN)/tiffin bench $(CPUS)/int8-cpu-vnni@onnxruntime $(CPUS)/int8-cpu@onnxruntime \
	  $(CPUS)/int8-cpu-vnni@openvino $(CPUS)/int8-cpu@openvino $(CPUS)/fp32@onnxruntime --time-limit-s 200 \
	  --out $(CPUS)/cpus-speed.json
	cp $(CPUS)/cpus-speed.json $(CPUS)/cpus-speed.npz $(RESULTS)/
	for name in openvino onnxruntime arm; do for ending in json npz; do \
	  cp $(CPUS)/cpus-$$name.$$ending $(RESULTS)/; done; \
	  $(BIN)/python $(STUDIES)/readme.py docs/cpus.md $(RESULTS)/cpus-$$name.json; done

TENSORRT := out/tensorrt

tensorrt: $(VENV)/installed  ## regenerate the record of docs/tensorrt.md: its graphs simulated on a CPU (half an hour on one core)
	$(BIN)/tiffin export --out $(TENSORRT)/fp32
	for precision in fp16 bf16 fp8; do \
	  $(BIN)/tiffin quantize $(TENSORRT)/fp32 --precision $$precision --out $(TENSORRT)/$$precision; done
	$(BIN)/tiffin quantize $(TENSORRT)/fp32 --scheme tensorrt --out $(TENSORRT)/int8
	$(BIN)/tiffin quantize $(TENSORRT)/fp32 --scheme tensorrt --floats fp16 --float-node Conv_6 --float-node Gemm_97 \
	  --out $(TENSORRT)/int8-fp16
	$(BIN)/tiffin score $(foreach name,fp32 fp16 bf16 int8 int8-fp16 fp8,$(TENSORRT)/$(name)@simulated) --threads 1 \
	  --out $(TENSORRT)/tensorrt-simulated.json
	for ending in json npz; do cp $(TENSORRT)/tensorrt-simulated.$$ending $(RESULTS)/; done
	$(BIN)/python $(STUDIES)/readme.py docs/tensorrt.md $(RESULTS)/tensorrt-simulated.json

gpu: $(VENV)/installed  ## on a machine with an NVIDIA GPU: build, test, score, time, and a record to send (half an hour)
	$(BIN)/tiffin selftest --gpu --out out/selftest

believe: $(VENV)/installed  ## regenerate the records of docs/believing.md (two and a half hours, after `make records`)
	$(BIN)/python $(STUDIES)/null.py $(BUILT)/fp32 $(RESULTS)/null.json
	$(BIN)/python $(STUDIES)/peers.py $(BUILT)/fp32 $(RESULTS)/peers.json --launches 16 --seconds 3
	$(BIN)/python $(STUDIES)/believe.py $(BUILT)/fp32 $(RESULTS)/believe.json --runs 60 --cpu 0
	$(BIN)/python $(STUDIES)/believe.py $(BUILT)/fp32 $(RESULTS)/believe-burner.json --runs 60 --cpu 0 --burner
	taskset -c 0 $(BIN)/tiffin loadgen $(BUILT)/openvino-int8-cpu-nncf --official --threads 1 \
	  --out out/loadgen/single-stream.json
	cp out/loadgen/single-stream.json $(RESULTS)/loadgen.json
	cp out/loadgen/single-stream.npz $(RESULTS)/loadgen.npz

GATE := out/gate

evidence: $(VENV)/installed  ## regenerate the records of docs/gate.md, docs/robustness.md and docs/explain.md (an hour, after `make records`)
	$(BIN)/tiffin export --out $(GATE)/fp32
	$(BIN)/tiffin quantize $(GATE)/fp32 --scheme cpu --out $(GATE)/int8
	$(BIN)/tiffin quantize $(GATE)/fp32 --scheme cpu-vnni --out $(GATE)/int8-full-range
	$(BIN)/tiffin robustness $(GATE)/fp32 $(GATE)/int8 $(GATE)/int8-full-range --backend openvino --photos 400 \
	  --out $(GATE)/robustness.json
	$(BIN)/tiffin robustness $(GATE)/fp32 $(GATE)/int8 --backend openvino --photos 2485 --corruption motion \
	  --corruption defocus --strength 3 --out $(GATE)/robustness-blur.json
	for name in robustness robustness-blur; do for ending in json npz; do cp $(GATE)/$$name.$$ending $(RESULTS)/; done; \
	  $(BIN)/python $(STUDIES)/readme.py docs/robustness.md $(RESULTS)/$$name.json; done
	$(BIN)/python $(STUDIES)/gate.py $(RESULTS)/default.json $(RESULTS)/gate-simulation.json
	$(BIN)/python $(STUDIES)/bounds.py $(RESULTS)/gate-bounds.json
	$(BIN)/python $(STUDIES)/gate.py --table docs/gate.md $(RESULTS)/gate-simulation.json
	$(BIN)/python $(STUDIES)/bounds.py --table docs/gate.md $(RESULTS)/gate-bounds.json
	$(BIN)/python $(STUDIES)/tails.py $(RESULTS)/gate-tails.json
	$(BIN)/python $(STUDIES)/tails.py --table docs/gate.md $(RESULTS)/gate-tails.json
	$(BIN)/python $(STUDIES)/sabotage.py $(TIFFIN_DATA) $(RESULTS)/sabotage.json
	$(BIN)/python $(STUDIES)/sabotage.py --table docs/explain.md $(RESULTS)/sabotage.json

DEVICE := out/device

device: $(VENV)/installed  ## regenerate the records of runtime.md, photos.md, serve.md, footprint.md and confidence.md (half an hour, quiet machine)
	$(BIN)/tiffin export --out $(DEVICE)/fp32
	$(BIN)/tiffin quantize $(DEVICE)/fp32 --out $(DEVICE)/int8
	for name in fp32 int8; do $(BIN)/tiffin compile $(DEVICE)/$$name --backend openvino --out $(DEVICE)/$$name-ir; done
	$(BIN)/python $(STUDIES)/overhead.py $(DEVICE)/fp32 $(RESULTS)/overhead.json
	$(BIN)/python $(STUDIES)/throughput.py $(DEVICE)/int8-ir $(RESULTS)/throughput.json
	$(BIN)/python $(STUDIES)/throughput.py --table docs/runtime.md $(RESULTS)/throughput.json
	$(BIN)/python $(STUDIES)/serve.py $(DEVICE)/int8-ir $(RESULTS)/serve.json --backend openvino
	$(BIN)/python $(STUDIES)/serve.py --table docs/serve.md $(RESULTS)/serve.json
	$(BIN)/python $(STUDIES)/photo_to_label.py $(DEVICE)/fp32 $(TIFFIN_DATA) $(RESULTS)/photo-to-label.json
	$(BIN)/python $(STUDIES)/photo_to_label.py --table docs/photos.md $(RESULTS)/photo-to-label.json
	$(BIN)/python $(STUDIES)/coldstart.py $(DEVICE)/int8 $(RESULTS)/coldstart.json
	$(BIN)/python $(STUDIES)/coldstart.py --table docs/footprint.md $(RESULTS)/coldstart.json
	$(BIN)/python $(STUDIES)/footprint.py $(RESULTS)/footprint.json
	$(BIN)/python $(STUDIES)/footprint.py --table docs/footprint.md $(RESULTS)/footprint.json
	$(BIN)/python $(STUDIES)/confidence.py $(DEVICE)/fp32@onnxruntime $(DEVICE)/int8@onnxruntime \
	  $(DEVICE)/fp32-ir@openvino $(DEVICE)/int8-ir@openvino --out $(RESULTS)/confidence.json
	$(BIN)/python $(STUDIES)/confidence.py --table docs/confidence.md $(RESULTS)/confidence.json

stacks: $(VENV)/installed  ## regenerate the record of footprint.md's last table (after `make device`; installs 9 GB in the user's cache)
	$(BIN)/python $(STUDIES)/stacks.py $(DEVICE)/int8 $(RESULTS)/stacks.json
	$(BIN)/python $(STUDIES)/stacks.py --table docs/footprint.md $(RESULTS)/stacks.json

TRAINED = $(sort $(foreach study,matrix drops,$(patsubst out/$(study)/%/checkpoint.safetensors,%,$(wildcard \
  out/$(study)/*/checkpoint.safetensors))))

quantizable: $(VENV)/installed  ## regenerate the record of docs/debug.md: what int8 was foretold to cost, and what it costs, of the shipped networks and those that `make drops`, else `make matrix` trained (an hour on one core)
	$(BIN)/tiffin export --no-fit-temperature --out out/quantizable/classifier
	$(BIN)/tiffin export train/weights/efficientnet-lite0-grocery-192.safetensors --no-fit-temperature \
	  --out out/quantizable/student
	for name in $(TRAINED); do \
	  from=out/drops/$$name; test -e $$from/checkpoint.safetensors || from=out/matrix/$$name; \
	  $(BIN)/tiffin export $$from/checkpoint.safetensors --no-fit-temperature --out out/quantizable/$$name || exit 1; done
	$(BIN)/python $(STUDIES)/quantizable.py $(TIFFIN_DATA) $(RESULTS)/quantizable.json \
	  $(addprefix out/quantizable/,classifier student $(TRAINED))
	$(BIN)/python $(STUDIES)/quantizable.py --table docs/debug.md $(RESULTS)/quantizable.json

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[build,dev]'
	@# NVIDIA's wheels exist for some platforms only; without them the TensorRT rows say so.
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[tensorrt-rtx]' \
	  || echo 'tensorrt-rtx has no wheel for this platform: its rows will say so'
	touch $@

# Each stands on those before it.
DEPENDENT := student records fastest peers cpus tensorrt believe evidence device stacks quantizable

everything: $(VENV)/installed  ## after other weights became the shipped ones: the synthesized set and every record, in their order (a night on two quiet cores)
	rm -rf out/synthesized
	$(BIN)/tiffin synthesize out/synthesized
	rm -r data/synthesized && cp -r out/synthesized data/synthesized
	for each in $(DEPENDENT); do $(MAKE) $$each || exit 1; done

clean:
	rm -rf $(VENV) out build *.egg-info
