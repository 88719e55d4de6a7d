"""One lane's work on the GPU: execution contexts bound to input shapes, and the CUDA graphs recorded of them.

A graph is valid only while the context that it was recorded from keeps its shapes and addresses (NVIDIA, «Developer
Guide», CUDA Graphs). So each set of shapes has a context of its own; as a lane runs them one after the other, they
share one scratch memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...artifact import TensorSpec
from ...errors import BadInput, EngineFailed
from ._cuda import Gpu, check
from ._trt_engine import Engine
from ._trt_plan import Buffer, Copy, Key, Plan, Plans, output_shape

ALIGNMENT_BYTES = 256  # what TensorRT's own allocators promise to kernels; arrays elsewhere are copied on the device
Arrays = Mapping[str, np.ndarray]


class Execution:
    """Runs an engine on one stream. All calls come from one thread at a time, with the GPU current.

    `size_bytes` is what free device memory shrank by, `no_graphs` why none are recorded, empty while they are.
    """

    def __init__(self, engine: Engine, gpu: Gpu, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self._engine: Engine | Any = engine
        self._gpu, self._inputs, self._outputs = gpu, inputs, outputs
        self._scratch = self.stream = self.size_bytes = 0
        self._events: list[int] = []
        self._buffers = {spec.name: Buffer(gpu) for spec in (*inputs, *outputs)}
        self._plans, self._spare, self.no_graphs = Plans(), None, ""
        try:
            with self._counted():
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        runtime = self._gpu.runtime
        self.stream = int(check(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking)))
        for _ in range(2):
            self._events.append(int(check(runtime.cudaEventCreateWithFlags(runtime.cudaEventDefault))))
        if self._engine.scratch_bytes:
            self._scratch = self._gpu.allocate(self._engine.scratch_bytes)
        self._spare = self._context()

    @property
    def graphs(self) -> int:
        """How many are recorded now."""
        return sum(plan.graph is not None for plan in self._plans.all())

    def wait_for(self, producer: int) -> None:
        """Run nothing of the next call before what `producer`, a stream, holds now."""
        self._gpu.wait_for(producer, self.stream, self._events[0])

    def run(self, profile: int, key: Key, feeds: Arrays) -> dict[str, np.ndarray]:
        """Run once and wait.

        Args:
            profile: index of the optimization profile.
            key: shape and, where it lies on the device, address of each input.
            feeds: those that lie on the host.

        Returns:
            Pinned memory that the next call overwrites.
        """
        plan = self._plan(key)
        with self._gpu.idle_after_errors(self.stream):
            if plan.calls < 2:
                with self._counted():
                    self._start(plan, profile, key, feeds)
                return plan.outputs
            plan.fill(feeds)
            if plan.graph is None:
                self._enqueue(plan)
            else:
                check(self._gpu.runtime.cudaGraphLaunch(plan.graph, self.stream))
            check(self._gpu.runtime.cudaStreamSynchronize(self.stream))
        return plan.outputs

    def _start(self, plan: Plan, profile: int, key: Key, feeds: Arrays) -> None:
        """Without a graph: TensorRT may allocate now. The second call of the same shapes is recorded for the next."""
        if not plan.bound:
            self._bind(plan, profile, key)
        plan.fill(feeds)
        self._enqueue(plan)
        check(self._gpu.runtime.cudaStreamSynchronize(self.stream))
        plan.calls += 1
        if plan.calls == 2:
            plan.graph = self._recorded(plan, kernels_only=False)

    def kernels_ns(self, profile: int, key: Key, feeds: Arrays) -> int:
        """Nanoseconds of the kernels alone, between two events; by a graph where one can be recorded.

        They run twice. The first, which is not measured, keeps the GPU busy while Python calls the second: on an idle
        stream the first event would pass at once, and the time be that of the call, too. NVIDIA's trtexec («GPU Compute
        Time», with `--useCudaGraph`) keeps it busy with the query before, while that one runs.
        """
        plan, runtime = self._plan(key), self._gpu.runtime
        if not plan.calls:
            self.run(profile, key, feeds)
        with self._gpu.idle_after_errors(self.stream):
            if plan.kernels is None:
                plan.kernels = self._recorded(plan, kernels_only=True)
            plan.fill(feeds)
            self._copy(plan.before)
            self._run_kernels(plan)
            check(runtime.cudaEventRecord(self._events[0], self.stream))
            self._run_kernels(plan)
            check(runtime.cudaEventRecord(self._events[1], self.stream))
            check(runtime.cudaStreamSynchronize(self.stream))
        return round(check(runtime.cudaEventElapsedTime(*self._events)) * 1e6)  # it tells milliseconds

    def _run_kernels(self, plan: Plan) -> None:
        if plan.kernels is None:
            self._execute(plan)
        else:
            check(self._gpu.runtime.cudaGraphLaunch(plan.kernels, self.stream))

    def close(self) -> None:
        """Free all that lies on the device; a second call does nothing. Errors are past mending here."""
        runtime = self._gpu.runtime
        if self.stream:
            runtime.cudaStreamSynchronize(self.stream)
        self._drop_graphs()
        self._plans.clear()
        self._spare = None
        for buffer in self._buffers.values():
            buffer.free()
        if self._scratch:
            runtime.cudaFree(self._scratch)
        for event in self._events:
            runtime.cudaEventDestroy(event)
        if self.stream:
            runtime.cudaStreamDestroy(self.stream)
        self._scratch = self.stream = 0
        self._events.clear()
        self._engine = None  # last, after its contexts

    def _plan(self, key: Key) -> Plan:
        """Of these shapes and addresses; where there are too many, the oldest gives its context."""
        plan = self._plans.get(key)
        if plan is None:
            oldest = self._plans.take_oldest(key)
            if oldest is not None:
                oldest.drop(self._gpu.runtime)
                self._spare = oldest.context
            context, self._spare = self._context() if self._spare is None else self._spare, None
            plan = Plan(context)
            self._plans.put(key, plan)
        return plan

    def _context(self) -> Any:
        context = self._engine.context()
        if self._scratch:
            context.set_device_memory(self._scratch, self._engine.scratch_bytes)
        return context

    def _bind(self, plan: Plan, profile: int, key: Key) -> None:
        context = plan.context
        if context.active_optimization_profile != profile:
            try:
                context.set_optimization_profile_async(profile, self.stream)
            except RuntimeError as error:  # the bindings' answer, which is never False
                raise self._engine.failed(f"does not take optimization profile {profile}") from error
            check(self._gpu.runtime.cudaStreamSynchronize(self.stream))
        for spec, (shape, _) in zip(self._inputs, key, strict=True):
            if not context.set_input_shape(spec.name, shape):
                raise BadInput(f"{spec.name} {shape} is outside the engine's profiles", "a shape within a profile")
        shapes = [shape for shape, _ in key] + [output_shape(context, spec.name) for spec in self._outputs]
        self._reserve(shapes)
        self._connect(plan, key, shapes)
        plan.bound = True

    def _reserve(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Room for each tensor. A buffer that grows moves: what was recorded of its old address is dropped."""
        growing = []
        for spec, shape in zip((*self._inputs, *self._outputs), shapes, strict=True):
            size = np.dtype(spec.dtype).itemsize * max(1, int(np.prod(shape)))
            if size > self._buffers[spec.name].size_bytes:
                growing.append((self._buffers[spec.name], size))
        if growing:
            self._drop_graphs()
        for buffer, size in growing:
            buffer.reserve(size)

    def _connect(self, plan: Plan, key: Key, shapes: Sequence[tuple[int, ...]]) -> None:
        """Tell the context where its tensors lie, and remember what is copied there and back."""
        plan.inputs, plan.outputs, plan.before, plan.after = {}, {}, [], []
        for spec, shape, (_, given) in zip(self._inputs, shapes, key, strict=False):
            buffer, aligned = self._buffers[spec.name], given and given % ALIGNMENT_BYTES == 0
            view = buffer.view(np.dtype(spec.dtype), shape)
            if not given:
                plan.inputs[spec.name] = view
            if not aligned:
                plan.before.append((buffer.device, given or buffer.host, view.nbytes))
            self._place(plan, spec.name, given if aligned else buffer.device)
        for spec, shape in zip(self._outputs, shapes[len(key) :], strict=True):
            buffer = self._buffers[spec.name]
            view = plan.outputs[spec.name] = buffer.view(np.dtype(spec.dtype), shape)
            plan.after.append((buffer.host, buffer.device, view.nbytes))
            self._place(plan, spec.name, buffer.device)

    def _place(self, plan: Plan, name: str, address: int) -> None:
        if not plan.context.set_tensor_address(name, address):
            raise self._engine.failed(f"does not take the address of {name}")

    def _enqueue(self, plan: Plan) -> None:
        self._copy(plan.before)
        self._execute(plan)
        self._copy(plan.after)

    def _copy(self, copies: Sequence[Copy]) -> None:
        for target, source, size in copies:
            self._gpu.copy(target, source, size, self.stream)

    def _execute(self, plan: Plan) -> None:
        if not plan.context.execute_async_v3(self.stream):
            raise self._engine.failed("failed to run the engine")

    def _recorded(self, plan: Plan, kernels_only: bool) -> Any:
        """A graph of a plan that has just run; None, and no more attempts in this lane, where it cannot be had."""
        if self.no_graphs:
            return None
        asks = self._engine.library.has("IExecutionContext.is_stream_capturable")
        if asks and not plan.context.is_stream_capturable(self.stream):
            self.no_graphs = f"{self._engine.library.name} allows none of this engine"
            return None
        try:
            return self._gpu.record(self.stream, lambda: self._execute(plan) if kernels_only else self._enqueue(plan))
        except EngineFailed as error:
            self.no_graphs = f"cannot be recorded: {error.what}"
            return None

    def _drop_graphs(self) -> None:
        for plan in self._plans.all():
            plan.drop(self._gpu.runtime)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Add what free device memory shrinks by; other processes' share in it cannot be told apart."""
        before = self._gpu.free_bytes()
        yield
        self.size_bytes += max(0, before - self._gpu.free_bytes())
