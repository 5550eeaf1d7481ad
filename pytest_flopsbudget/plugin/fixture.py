"""The object that the ``flops_budget`` fixture gives to a test."""

from __future__ import annotations

import re
import reprlib
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.plugin.latency_policy import LatencyPolicy
from pytest_flopsbudget.results.call_arguments import refuse_keywords
from pytest_flopsbudget.results.identity import DEFAULT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Never

    from pytest_flopsbudget.config.settings import ShapesMode
    from pytest_flopsbudget.counting.inputs import Inputs
    from pytest_flopsbudget.counting.latency.measured_call import MeasuredCall
    from pytest_flopsbudget.counting.watch import Watch
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.inference.serving import Serving
    from pytest_flopsbudget.laws.law import Law
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.verdict import Measurement


class FlopsBudget:
    """Measures models for one test. After the test's body, the plugin judges the measurements."""

    def __init__(  # noqa: PLR0913 -- the settings of a test
        self,
        prepare: Callable[[], object] = lambda: None,
        *,
        reuse_answers: bool = True,
        shapes: ShapesMode = "preferred",
        test: str = "test",
        devices: Sequence[Device] = (),
        latency_policy: LatencyPolicy | None = None,
        keeps_timeline: bool = False,
    ) -> None:
        self._reuse_answers = reuse_answers
        self._shapes = shapes
        #: Whether measurements keep the bytes alive over the course of the run, which the HTML page shows.
        self._keeps_timeline = keeps_timeline
        self._latency_policy = latency_policy or LatencyPolicy()
        # The devices for which the time is estimated.
        self._devices = devices
        self._test = test
        # This function is called before each measurement. Formulas from hooks and settings are then registered only if
        # needed.
        self._prepare = prepare
        self._measurements: dict[str, Measurement] = {}
        self._closed = False

    def __call__(  # noqa: PLR0913 -- the choices that a user has for a measurement
        self,
        model: Callable[..., Any] | Complexity,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        backward: bool = False,
        latency: bool = False,
        **unknown: Never,
    ) -> Complexity:
        """Measure ``model(*args, **kwargs)``. If possible, only the shapes of the tensors are computed.

        Args:
            model: a module, a method of a module, or a function that calls modules. Or a measurement that
                `pytest_flopsbudget.measure` made earlier, for example in a fixture of the module or the session: it is
                judged as if the test had made it, and no other argument but ``name`` is allowed.
            args: the positional arguments, in a list or a tuple. Any other value, such as a tensor, is passed as one
                argument. If there are neither positional nor keyword arguments, the example inputs of the model are
                used and named in the measurement's notes: ``example_input_array`` of Lightning, ``dummy_inputs`` of
                transformers.
            kwargs: the keyword arguments.
            name: distinguishes the measurements of one test. If a name is used again (in a loop, under hypothesis), the
                largest measurement is kept.
            backward: whether the backward pass of the summed outputs is counted too.
            latency: whether the time that the model takes on this machine is measured too. With ``latency=True``, every
                call is timed. If only a limit or a tolerance asks for the latency, a measurement is timed only if it is
                the first under its name or larger than all earlier ones.
            unknown: other keyword arguments are refused, and the message names a similar one.

        Returns:
            The measurement, to assert on or to compare: ``m.flops``, ``m["layer4"].params``.

        Raises:
            UsageError: the model cannot be called, it needs arguments and none of them is a tensor, two different
                models have the same name, or the test's body has ended. If the latency is measured: the model has no
                data.
            Exception: any exception that the model raises.
        """
        from pytest_flopsbudget.results.complexity import Complexity

        refuse_keywords("flops_budget", self.__call__, unknown)
        name = DEFAULT_NAME if name is None else name
        if isinstance(model, Complexity):
            self._check_open("flops_budget(...)")
            _check_name(name, f"flops_budget(..., name={name!r})")
            if args != () or kwargs is not None or backward or latency:
                raise UsageError("flops_budget(measurement): a measurement is judged as it is; give it a name at most")
            self._keep(name, model, 0.0)
            return model
        inputs = self._check(name, model, args, kwargs)
        self._prepare()
        start = time.perf_counter()
        measured = self._measure(model, inputs, args, backward=backward)
        complexity = measured.complexity
        if latency or (self._latency_policy.wanted and self._would_keep(name, complexity)):
            complexity = self._latency_policy.add_latency(measured)
        self._keep(name, complexity, time.perf_counter() - start)
        return complexity

    def mean(
        self,
        model: Callable[..., Any],
        inputs: Iterable[Any],
        *,
        name: str | None = None,
        backward: bool = False,
        **unknown: Never,
    ) -> Complexity:
        """Measure the model with several inputs and judge the mean, for a model whose work depends on its data.

        Args:
            model: a module, a method of a module, or a function that calls modules.
            inputs: one value for each run: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
            name: the name of the measurement, as in a call of the fixture.
            backward: whether the backward pass of the summed outputs is counted too.
            unknown: other keyword arguments are refused, and the message names a similar one.

        Returns:
            The mean of the measurements. It is rounded up where it is no whole number.

        Raises:
            UsageError: there are no inputs, ``inputs`` is a single tensor or a dict, or the model cannot be measured
                with one of them.
            Exception: any exception that the model raises.
        """
        from pytest_flopsbudget.results.mean import mean

        refuse_keywords("flops_budget.mean", self.mean, unknown)
        name = DEFAULT_NAME if name is None else name
        if isinstance(inputs, Mapping) or ("torch" in sys.modules and isinstance(inputs, sys.modules["torch"].Tensor)):
            raise UsageError(
                f"flops_budget.mean(model, inputs): inputs is a value of type {type(inputs).__name__}, which is a "
                "single input; hand over a list of inputs, as in flops_budget.mean(model, [short, long])"
            )
        measurements = []
        start = time.perf_counter()
        for given in inputs:
            args, kwargs = ((), given) if isinstance(given, Mapping) else (given, None)
            found = self._check(name, model, args, kwargs)
            self._prepare()
            measurements.append(self._measure(model, found, args, backward=backward).complexity)
        if not measurements:
            raise UsageError("flops_budget.mean(model, inputs): there are no inputs; hand over a list of them")
        complexity = mean(measurements)
        self._keep(name, complexity, time.perf_counter() - start)
        return complexity

    def over(
        self,
        model: Callable[..., Any] | None,
        make_inputs: Callable[..., Any],
        *,
        name: str | None = None,
        backward: bool = False,
        on_data: bool = False,
        **symbols: range,
    ) -> Law:
        """Find out how the costs grow with sizes, and judge this growth.

        ::

            flops_budget.over(model, lambda sequence: torch.empty(1, sequence, 512), sequence=range(128, 8193))

        The measurement of the largest sizes is judged and recorded like that of a call of the fixture. Limits have to
        hold for every size of the range.

        Args:
            model: a module, a method of a module, or a function that calls modules. None if ``make_inputs`` returns
                models.
            make_inputs: is called with one size for each symbol. It returns a tensor, a tuple of arguments, a dict of
                keyword arguments, a tuple (arguments, keyword arguments), or a tuple (model, any of these).
            name: the name of the measurement, as in a call of the fixture. No name is used twice.
            backward: whether the backward pass of the summed outputs is counted too.
            on_data: whether a model that needs data may run on the data of its inputs.
            symbols: name → the sizes, as a range. One to three symbols.

        Returns:
            The laws, as `pytest_flopsbudget.law` returns them.

        Raises:
            UsageError: a symbol is no range, the model refuses a size or needs data, the name was used before, or the
                test's body has ended.
        """
        from pytest_flopsbudget.laws.law import MOST_COUNTS, law, refuse_other_than_ranges
        from pytest_flopsbudget.results.verdict import Measurement

        name = DEFAULT_NAME if name is None else name
        self._check_open("flops_budget.over(...)")
        refuse_other_than_ranges("flops_budget.over", self.over, symbols)
        _check_name(name, f"flops_budget.over(..., name={name!r})")
        if name in self._measurements:
            raise UsageError(
                f"flops_budget.over(...): {name!r} was measured before in this test; tell them apart with "
                'flops_budget.over(..., name="...")'
            )
        self._prepare()
        start = time.perf_counter()
        try:
            found = law(
                model,
                make_inputs,
                backward=backward,
                on_data=on_data,
                devices=self._devices,
                most_counts=MOST_COUNTS,
                metrics=None,
                **symbols,
            )
        except UsageError as error:
            raise UsageError(re.sub(r"\blaw\((?=\.\.\.|model, )", "flops_budget.over(", str(error))) from error
        complexity = self._untimed(found.largest, "a model whose growth is measured")
        self._measurements[name] = Measurement(
            name=name, complexity=complexity, seconds=time.perf_counter() - start, laws=found
        )
        return found

    def serving(  # noqa: PLR0913 -- the options of `serving`
        self,
        model: Any,
        *,
        prompt: int,
        new_tokens: int,
        batch: int = 1,
        cache: str | Callable[[int], Any] = "dynamic",
        inputs: Callable[..., Mapping[str, Any]] | None = None,
        prefill: Callable[..., Any] | None = None,
        decode: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> Serving:
        """Measure what a language model costs when it answers requests, and judge the prefill and a decoding step.

        ::

            @pytest.mark.flops_budget(kv_cache_per_token="64 KiB", requests={"H100": 40})
            def test_serving(flops_budget, model):
                flops_budget.serving(model, prompt=2048, new_tokens=256, batch=8)

        The two measurements have the names "prefill" and "decode". Bounds are computed for the devices that the limits
        and the settings name.

        Args:
            model: see `pytest_flopsbudget.serving`.
            prompt: see `pytest_flopsbudget.serving`.
            new_tokens: see `pytest_flopsbudget.serving`.
            batch: see `pytest_flopsbudget.serving`.
            cache: see `pytest_flopsbudget.serving`.
            inputs: see `pytest_flopsbudget.serving`.
            prefill: see `pytest_flopsbudget.serving`.
            decode: see `pytest_flopsbudget.serving`.
            name: distinguishes several calls in one test. With ``name="long"``, the measurements are "long prefill" and
                "long decode".

        Returns:
            Both measurements, and the bounds on devices.

        Raises:
            UsageError: an argument is wrong, the model needs data that it does not have, the name was used before, or
                the test's body has ended.
            Exception: any exception that the model raises.
        """
        from pytest_flopsbudget.inference.serving import DECODE, PREFILL, make_server

        call = "flops_budget.serving(...)"
        self._check_open(call)
        if name is not None:
            _check_name(name, f"flops_budget.serving(..., name={name!r})")
        names = [step if name is None else f"{name} {step}" for step in (PREFILL, DECODE)]
        for used in names:
            if used in self._measurements:
                raise UsageError(
                    f"{call}: {used!r} was measured before in this test; tell the calls apart with "
                    'flops_budget.serving(..., name="...")'
                )
        self._prepare()
        start = time.perf_counter()
        try:
            server = make_server(
                model,
                prompt=prompt,
                new_tokens=new_tokens,
                batch=batch,
                cache=cache,
                inputs=inputs,
                prefill=prefill,
                decode=decode,
                devices=self._devices,
                reuse_answers=self._reuse_answers,
                shapes=self._shapes,
            )
        except UsageError as error:
            raise UsageError(re.sub(r"^serving\(", "flops_budget.serving(", str(error))) from error
        served = server.serve()
        seconds = time.perf_counter() - start
        for used, complexity in zip(names, (served.prefill, served.decode), strict=True):
            self._keep(used, self._untimed(complexity, "a model that is served"), seconds / len(names))
        return served

    def _measure(self, model: Callable[..., Any], inputs: Inputs, given: object, *, backward: bool) -> MeasuredCall:
        """Measure the model. An error of the model may get a hint on ``given``, the argument ``args`` of the call."""
        # Imported here, because a run without measurements should not import PyTorch.
        from pytest_flopsbudget.counting.latency.measured_call import measure_inputs

        try:
            return measure_inputs(
                model,
                inputs,
                backward=backward,
                reuse_answers=self._reuse_answers,
                shapes=self._shapes,
                devices=self._devices,
                keeps_timeline=self._keeps_timeline,
            )
        except UsageError:
            raise
        except Exception as error:
            from pytest_flopsbudget.counting.call_hints import add_hint

            add_hint(error, "flops_budget", given)
            raise

    @staticmethod
    def world(size: int, rank: int = 0) -> AbstractContextManager[None]:
        """Measure as rank ``rank`` of ``size`` processes while the context lasts.

        See `pytest_flopsbudget.world`.

        Raises:
            UsageError: there is no such rank, or a process group is initialized already.
        """
        from pytest_flopsbudget.counting.distributed.world import world

        return world(size, rank)

    @contextmanager
    def watch(self, name: str | None = None) -> Iterator[Watch]:
        """Measure the work that runs for real in a ``with`` block: several calls, a training step, a loop.

        A block may contain other blocks. The work of an inner block counts in both blocks. Calls of the fixture count
        in no block.

        Args:
            name: the name of the measurement, as in a call of the fixture. If a name is used again, the largest
                measurement is kept.

        Yields:
            A watch. Its ``complexity`` is the measurement, after the block has ended.

        Raises:
            UsageError: nothing was computed in the block, two different models have the same name, or the test's body
                has ended.
        """
        name = DEFAULT_NAME if name is None else name
        self._check_open("flops_budget.watch(...)")
        _check_name(name, f"flops_budget.watch({name!r})")
        with self._watching(name) as (watch, seconds):
            yield watch
        if not watch.has_run:
            raise UsageError(
                f"flops_budget.watch({name!r}): nothing was computed in the block; run the model inside of it, in this "
                "thread"
            )
        self._keep(name, self._untimed(watch.complexity), seconds())

    @contextmanager
    def watch_test(self) -> Iterator[None]:
        """Measure a watched test, or one example of a hypothesis test. The most expensive example counts."""
        with self._watching(self._test) as (watch, seconds):
            try:
                yield
            finally:
                watch.end()
                if watch.has_run:
                    complexity = self._untimed(watch.complexity)
                    self._keep(DEFAULT_NAME, complexity, seconds(), of_one_model=False)

    @contextmanager
    def _watching(self, name: str) -> Iterator[tuple[Watch, Callable[[], float]]]:
        from pytest_flopsbudget.counting.watch import Watch

        self._prepare()
        start = time.perf_counter()
        with Watch(
            name,
            reuse_answers=self._reuse_answers,
            devices=self._devices,
            keeps_timeline=self._keeps_timeline,
        ) as watch:
            yield watch, lambda: time.perf_counter() - start

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise UsageError(
                f"{what} was called after the test's body, when the budget is no longer checked; "
                "measure in the test, or in a fixture before its yield"
            )

    def _check(self, name: object, model: Any, args: Any, kwargs: Any) -> Inputs:
        from pytest_flopsbudget.counting.call_hints import check_call
        from pytest_flopsbudget.counting.inputs import find_inputs, required_arguments
        from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors

        self._check_open("flops_budget(...)")
        _check_name(name, f"flops_budget(..., name={name!r})")
        check_call("flops_budget", model, kwargs)
        inputs = find_inputs(model, args, kwargs)
        given = inputs.args or inputs.kwargs
        if (given or required_arguments(model)) and next(iterate_tensors((inputs.args, inputs.kwargs)), None) is None:
            shown = reprlib.repr(args) + (f", {reprlib.repr(kwargs)}" if kwargs else "")
            carried = "" if given else ", and the model holds no example inputs (dummy_inputs, example_input_array)"
            raise UsageError(
                f"flops_budget(model, args): there is no tensor among the arguments, which are {shown}{carried}; hand "
                "over the model's input, as in flops_budget(model, torch.empty(1, 3, 224, 224)); where it takes none, "
                "flops_budget(lambda: model(...))"
            )
        return inputs

    def _untimed(self, complexity: Complexity, what: str = "a watched model") -> Complexity:
        """Return a measurement that cannot be timed.

        If the test has a latency limit, add a note that the limit is not checked.
        """
        if not self._latency_policy.limited:
            return complexity
        from msgspec.structs import replace

        note = f"{what} is not timed, so its latency limit is not checked: call flops_budget(model, inputs)"
        return replace(complexity, notes=(*complexity.notes, note))

    def _would_keep(self, name: str, complexity: Complexity) -> bool:
        """Return whether ``complexity`` is the largest measurement so far under ``name``."""
        known = self._measurements.get(name)
        return known is None or _size(complexity) > _size(known.complexity)

    def _keep(self, name: str, complexity: Complexity, seconds: float, *, of_one_model: bool = True) -> None:
        from pytest_flopsbudget.results.verdict import Measurement

        known = self._measurements.get(name)
        if known is not None and known.laws is not None:
            raise UsageError(
                f"{name!r} was measured before in this test, by flops_budget.over(...); tell the measurements apart "
                'with flops_budget(..., name="...")'
            )
        if known is None:
            self._measurements[name] = Measurement(name=name, complexity=complexity, seconds=seconds)
            return
        if of_one_model and _identity(known.complexity) != _identity(complexity):
            raise UsageError(
                f"two different models were measured as {name!r}: {_in_words(known.complexity)}, then "
                f'{_in_words(complexity)}; tell them apart with flops_budget(..., name="...")'
            )
        larger = max(known.complexity, complexity, key=_size)
        self._measurements[name] = Measurement(
            name=name, complexity=larger, times=known.times + 1, seconds=known.seconds + seconds
        )

    def close(self) -> list[Measurement]:
        """Return the measurements, one for each name. After this call, no measurement is possible."""
        self._closed = True
        return list(self._measurements.values())


def _check_name(name: object, call: str) -> None:
    if not isinstance(name, str) or not name:
        raise UsageError(f"{call}: a name is a text that is not empty")


def _size(complexity: Complexity) -> tuple[int, int]:
    return complexity.flops, complexity.total_flops


def _identity(complexity: Complexity) -> tuple[str, int]:
    # Buffers are not compared, because caches in buffers grow with the inputs.
    return complexity.model, complexity.params


def _in_words(complexity: Complexity) -> str:
    from pytest_flopsbudget.safe_text import visible

    return f"{visible(complexity.model)} of {complexity.params:,} parameters"
