"""Every private name of PyTorch that this package uses, each once, with the feature that needs it.

A private name may be renamed in any version of PyTorch. So each name is looked up in this file only, and the rest of
the package imports it from here. No version numbers are compared: the file checks whether the name exists. Importing
this file always succeeds. A missing name is replaced by a function that raises a `UsageError` when the feature is used,
unless the entry below describes another reaction.

Unless an entry says otherwise, the name exists in PyTorch 2.6, the oldest supported version, and in 2.13. Names of
PyTorch's operators (``aten._softmax``) are strings in other files. The dispatcher passes such names to this package, so
a name that does not exist is never used.
"""

from __future__ import annotations

import functools
import pkgutil
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
    from contextlib import AbstractContextManager
    from types import CodeType
    from typing import TypeAlias

    from torch import _ops as ops
    from torch._subclasses import fake_tensor
    from torch.utils import _python_dispatch as modes


class PrivateName(NamedTuple):
    """The feature that needs one private name, and the reaction if the name is missing."""

    #: The feature that needs the name, in words that can begin a message.
    feature: str
    #: The reaction in a version of PyTorch that does not have the name.
    without: str


_REFUSED = "the feature raises UsageError when it is used"
_ABSENT: Any = object()

#: "module:name" → the feature that needs the name, for names that are looked up in modules.
NAMES: dict[str, PrivateName] = {}
#: "Class.attribute" → the feature that needs the attribute, for attributes and methods of instances.
ATTRIBUTES: dict[str, PrivateName] = {}


def missing(feature: str, name: str) -> UsageError:
    """Return the error for a feature that needs a private name which this version of PyTorch does not have."""
    return UsageError(
        f"{feature} needs {name.replace(':', '.')}, a private part of PyTorch that version {torch.__version__} does "
        "not have; install another version of PyTorch (2.13 has it), and report this one to pytest-flopsbudget"
    )


def _look_up(name: str) -> Any:
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return _ABSENT


def _refusing(feature: str, name: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise missing(feature, name)

    return refuse


def _function(name: str, feature: str) -> Any:
    """Return the function ``name``. If the name does not exist, return a function that raises a `UsageError`."""
    NAMES[name] = PrivateName(feature, _REFUSED)
    found = _look_up(name)
    return _refusing(feature, name) if found is _ABSENT else found


def _class(name: str, feature: str) -> Any:
    """Return the class ``name``. If the name does not exist, return a class whose constructor raises a `UsageError`."""
    NAMES[name] = PrivateName(feature, _REFUSED)
    found = _look_up(name)
    if found is _ABSENT:
        return type(name.rpartition(":")[2], (), {"__init__": _refusing(feature, name)})
    return found


def _optional(name: str, feature: str, without: str, default: Any = None) -> Any:
    """Return the value with this name. If the name does not exist, return ``default``."""
    NAMES[name] = PrivateName(feature, without)
    found = _look_up(name)
    return default if found is _ABSENT else found


def _imported_later(name: str, feature: str) -> Callable[[], Any]:
    """Return a function that imports the module in ``name`` and returns the value with this name.

    The import is slow, and most measurements do not need the value.
    """
    NAMES[name] = PrivateName(feature, _REFUSED)

    @functools.cache
    def load() -> Any:
        found = _look_up(name)
        if found is _ABSENT:
            raise missing(feature, name)
        return found

    return load


def _attribute(owner: str, name: str, feature: str) -> Callable[[Any], Any]:
    """Return a function that takes an instance of the class ``owner`` and returns its attribute ``name``."""
    ATTRIBUTES[f"{owner}.{name}"] = PrivateName(feature, _REFUSED)

    def get(instance: Any) -> Any:
        try:
            return getattr(instance, name)
        except AttributeError:
            raise missing(feature, f"{owner}.{name}") from None

    return get


# Classes of the dispatcher.

if TYPE_CHECKING:
    FakeTensor: TypeAlias = fake_tensor.FakeTensor
    HigherOrderOperator: TypeAlias = ops.HigherOrderOperator
    OpOverload: TypeAlias = ops.OpOverload
    TorchDispatchMode: TypeAlias = modes.TorchDispatchMode
else:
    FakeTensor = _optional(
        "torch._subclasses.fake_tensor:FakeTensor",
        "Telling fake tensors from tensors with data",
        "no tensor is taken for a fake one",
        type("FakeTensor", (), {}),
    )
    HigherOrderOperator = _optional(
        "torch._ops:HigherOrderOperator",
        "Counting operators that take functions",
        "no operator is taken for such a one",
        type("HigherOrderOperator", (), {}),
    )
    OpOverload = _optional(
        "torch._ops:OpOverload",
        "Counting operators",
        "the class is taken from an operator",
        type(torch.ops.aten.add.Tensor),
    )
    TorchDispatchMode = _class("torch.utils._python_dispatch:TorchDispatchMode", "Counting operators")


#: The classes of tensors that tracers and compilers use in place of tensors with data.
TRACED_TENSORS: tuple[type, ...] = (
    FakeTensor,
    _optional(
        "torch._subclasses.functional_tensor:FunctionalTensor",
        "Checking custom operators while watching",
        "a functional tensor is taken for a subclass that runs operators itself",
        FakeTensor,
    ),
)


class DispatchMode(TorchDispatchMode):
    """The base class of the dispatch modes in this package. A dispatch mode sees the operators that run."""

    supports_higher_order_operators = True
    #: Whether the mode does not change operators. Such a mode steps aside for tracers and compilers.
    only_observes = False
    #: Whether the mode steps aside now.
    steps_aside = False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Without this method, PyTorch wraps `__torch_dispatch__` to exclude it from compilation. For this, PyTorch
        # imports the whole compiler on the first operator, which takes more than a second. Compiling is disabled
        # meanwhile anyway. PyTorch 2.6 does not read this method, and wraps nothing.
        return False


disable_current_modes = _function(
    "torch.utils._python_dispatch:_disable_current_modes", "Measuring within another dispatch mode"
)
no_dispatch = _function("torch.utils._mode_utils:no_dispatch", "Counting scaled_dot_product_attention on shapes")
count_dispatch_modes: Callable[[], int] = _optional(
    "torch._C:_len_torch_dispatch_stack",
    "Measuring within another dispatch mode",
    "another mode is assumed to be active always, which is slower",
    lambda: 1,
)

#: Returns the innermost dispatch mode, or None.
current_dispatch_mode: Callable[[], Any] = _optional(
    "torch.utils._python_dispatch:_get_current_dispatch_mode",
    "Counting operators that take functions",
    "PyTorch 2.6 to 2.8 refuse such operators under a mode; newer versions do not need the name",
    lambda: None,
)
NAMES["torch.utils._python_dispatch:TorchDispatchMode.supports_higher_order_operators"] = PrivateName(
    "Counting operators that take functions",
    "the mode's class is searched in a table of the operator, as 2.6 to 2.8 do, which lack the name",
)
#: Whether PyTorch passes operators that take functions to a dispatch mode.
modes_see_higher_order_operators: bool = hasattr(TorchDispatchMode, "supports_higher_order_operators")

push_mode = _function("torch.utils._python_dispatch:_push_mode", "Leaving tracers and compilers alone while watching")
pop_mode = _function("torch.utils._python_dispatch:_pop_mode", "Leaving tracers and compilers alone while watching")

NAMES["torch.utils._python_dispatch:TorchDispatchMode.ignore_compile_internals"] = PrivateName(
    "Compiling functions while watching", "compiled functions run eagerly while they are watched; 2.6 does not have it"
)
#: Whether PyTorch compiles functions under a dispatch mode that allows it.
compiles_under_modes: bool = hasattr(TorchDispatchMode, "ignore_compile_internals")

_dispatch_flags: Any = _optional(
    "torch.utils:_python_dispatch",
    "Compiling models while watching",
    "a model that is compiled while it is watched runs eagerly",
)


@contextmanager
def flagged_as_active(modes: Iterable[TorchDispatchMode]) -> Iterator[None]:
    """While the context lasts, make PyTorch's flags say that no other dispatch modes than ``modes`` are active.

    PyTorch sets these flags when a mode is entered, and does not change them when a mode is only taken off the stack. A
    version that does not compile under modes would look at the flags, and would mark each function that it refuses to
    compile, so that it never compiles the function again. Newer versions look at other flags.
    """
    names = ("_is_in_torch_dispatch_mode", "_is_in_non_infra_torch_dispatch_mode")
    if compiles_under_modes or not all(hasattr(_dispatch_flags, name) for name in names):
        yield
        return
    before = [getattr(_dispatch_flags, name) for name in names]
    active = list(modes)
    try:
        for name, flag in zip(names, (bool(active), any(not mode.is_infra_mode() for mode in active)), strict=True):
            setattr(_dispatch_flags, name, flag)
        yield
    finally:
        for name, flag in zip(names, before, strict=True):
            setattr(_dispatch_flags, name, flag)


#: A context in which no `__torch_function__` is called: neither that of a tensor's class nor that of a mode. If the
#: name is missing, reading the attributes of a tensor calls them.
without_torch_function: Callable[[], AbstractContextManager[None]] = _optional(
    "torch._C:DisableTorchFunction",
    "Looking at tensors while watching",
    "a `__torch_function__` sees some calls that it would not see without a watch",
    nullcontext,
)

#: The number of active `TorchFunctionMode`. Such a mode sees when the attributes of any tensor are read.
count_function_modes: Callable[[], int] = _optional(
    "torch._C:_len_torch_function_stack",
    "Looking at tensors while watching",
    "such a mode is assumed to be active always, which is slower",
    lambda: 1,
)


class _Names(TorchDispatchMode):
    """Records the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@functools.cache
def assigns_numbers_as_tensors() -> bool:
    """Return whether ``tensor[0] = 1.0`` makes a tensor of the number on the CPU.

    PyTorch 2.14 and older make a tensor. Newer versions pass the number on. The first call of this function tests one
    assignment.
    """
    with disable_current_modes():
        place = torch.empty(1, device="cpu")
        with _Names() as names:
            place[0] = 1.0
    return "aten.fill_.Scalar" not in names.seen


# Kernels and keys of the dispatcher.

has_kernel: Callable[[str, str], bool] = _function(
    "torch._C:_dispatch_has_kernel_for_dispatch_key", "Telling which operators consist of others"
)
kernels_of_key: Callable[[str], list[str]] = _function(
    "torch._C:_dispatch_get_registrations_for_dispatch_key", "Following autocast on shapes"
)
schema_of = _attribute("OpOverload", "_schema", "Counting operators")
_run_for_key = _attribute("OpOverload", "_op_dk", "Watching operators that consist of others")
_COMPOSITE_IMPLICIT = _optional(
    "torch._C:DispatchKey.CompositeImplicitAutograd", "Watching operators that consist of others", _REFUSED, _ABSENT
)
_COMPOSITE_EXPLICIT = _optional(
    "torch._C:DispatchKey.CompositeExplicitAutograd", "Counting operators that take functions", _REFUSED, _ABSENT
)
_VIEWS = _optional("torch._C:DispatchKey.ADInplaceOrView", "Watching under inference mode", _REFUSED, _ABSENT)
_excluded_keys = _function("torch._C:_dispatch_tls_local_exclude_set", "Watching under inference mode")
_included_keys = _function("torch._C:_dispatch_tls_local_include_set", "Watching under inference mode")
_force_keys = _function("torch._C:_ForceDispatchKeyGuard", "Watching under inference mode")


def run_parts(operator: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Run the operators that a composite operator consists of. C++ code of PyTorch calls these operators."""
    if _COMPOSITE_IMPLICIT is _ABSENT:
        raise missing("Watching operators that consist of others", "torch._C.DispatchKey.CompositeImplicitAutograd")
    return _run_for_key(operator)(_COMPOSITE_IMPLICIT, *args, **kwargs)


def tracking_views() -> Any:
    """Return a context in which PyTorch tracks views, although a dispatch mode handles an operator.

    PyTorch's matrix product chooses its way of computing by whether a view of a weight requires gradients. So views
    must be tracked as without a dispatch mode.
    """
    if _VIEWS is _ABSENT:
        raise missing("Watching under inference mode", "torch._C.DispatchKey.ADInplaceOrView")
    return _force_keys(_included_keys(), _excluded_keys().remove(_VIEWS))


def python_body(operator: HigherOrderOperator) -> Callable[..., Any] | None:
    """Return the Python function that a higher-order operator runs; None if it runs no Python function."""
    if _COMPOSITE_EXPLICIT is _ABSENT:
        raise missing("Counting operators that take functions", "torch._C.DispatchKey.CompositeExplicitAutograd")
    body: Callable[..., Any] | None = operator.py_kernels.get(_COMPOSITE_EXPLICIT)
    return body


def unregister(library: Any) -> None:
    """Remove the kernels of a `torch.library.Library` immediately."""
    destroy = getattr(library, "_destroy", None)
    if destroy is not None:
        destroy()


ATTRIBUTES["Library._destroy"] = PrivateName(
    "Counting scaled_dot_product_attention on shapes", "the kernel is taken back when the library object is freed"
)

# Autocast.

#: The module in which autocast checks whether CUDA is available, and the function for this check. If they are missing,
#: autocast for CUDA does nothing on a machine without CUDA.
_autocast_common: Any = _optional(
    "torch.cuda.amp:common", "Counting a model for CUDA without CUDA", "autocast for CUDA does nothing without CUDA"
)
_AUTOCAST_CHECK = "amp_definitely_not_available"


@functools.cache
def keeps_gradients_of_casts() -> bool:
    """Return whether autocast records the gradient of a cast that it keeps for later calls, even under `torch.no_grad`.

    PyTorch 2.6 does not. The answer comes from two products, which this function computes when it is called first.
    """
    with disable_current_modes(), torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=True):
        one = torch.ones(1, 1, device="cpu")
        weight = torch.ones(1, 1, device="cpu", requires_grad=True)
        with torch.no_grad():
            torch.nn.functional.linear(one, weight)
        with torch.enable_grad():
            return torch.nn.functional.linear(one, weight).requires_grad


def autocast_checks() -> list[tuple[Any, str, Callable[[], bool]]]:
    """Return (owner, name, replacement) for the functions by which autocast checks what CUDA can do.

    The replacements answer as on a machine with CUDA.
    """
    if not hasattr(_autocast_common, _AUTOCAST_CHECK):
        return []
    supported = torch.cuda.is_bf16_supported
    return [
        (_autocast_common, _AUTOCAST_CHECK, lambda: False),
        (torch.cuda, "is_bf16_supported", lambda: not torch.cuda.is_available() or supported()),
    ]


# Autograd.

current_autograd_node: Callable[[], Any] = _function(
    "torch._C:_current_autograd_node", "Telling the backward pass from the forward pass"
)
next_sequence_number: Callable[[], int] = _function(
    "torch._C:_autograd._get_sequence_nr", "Crediting the backward pass to modules"
)
_backward_code: CodeType | None = _optional(
    "torch.autograd.graph:_engine_run_backward.__code__", "Telling recomputed work from the backward pass", _REFUSED
)


def backward_code() -> CodeType:
    """Return the code object of the Python function through which PyTorch starts a backward pass."""
    if _backward_code is None:
        raise missing("Telling recomputed work from the backward pass", "torch.autograd.graph._engine_run_backward")
    return _backward_code


# Tensors.

#: Creates a tensor of a subclass over the data of another tensor.
make_subclass: Callable[[type[torch.Tensor], torch.Tensor, bool], torch.Tensor] = _function(
    "torch:Tensor._make_subclass", "Cloning parameters"
)
#: A context in which no `__torch_function__` of a subclass is called. If the name is missing, cloning such a tensor
#: calls it.
without_subclass_functions: Callable[[], AbstractContextManager[None]] = _optional(
    "torch._C:DisableTorchFunctionSubclass",
    "Cloning tensors of subclasses",
    "the `__torch_function__` of a class is asked for the metadata of its tensors when they are cloned",
    nullcontext,
)
script_type = _attribute("ScriptObject", "_type", "Counting packed weights")
script_method_exists = _attribute("ScriptObject", "_has_method", "Counting packed weights")
is_view: Callable[[torch.Tensor], bool] = _function("torch:Tensor._is_view", "Following autocast on shapes")
indices_of: Callable[[torch.Tensor], torch.Tensor] = _function("torch:Tensor._indices", "Counting sparse tensors")
values_of: Callable[[torch.Tensor], torch.Tensor] = _function("torch:Tensor._values", "Counting sparse tensors")
neg_view: Callable[[torch.Tensor], torch.Tensor] = _function(
    "torch:_neg_view", "Timing a model that holds negated views"
)
suggest_memory_format: Callable[[torch.Tensor], torch.memory_format] = _function(
    "torch._prims_common:suggest_memory_format", "Working out strides on shapes"
)

# Modules and functions of PyTorch.

convolution_class: Any = _optional(
    "torch.nn.modules.conv:_ConvNd",
    "Describing convolutions in tables",
    "the public classes of convolutions are recognized one by one",
    tuple(getattr(torch.nn, f"Conv{variant}{dims}d") for variant in ("", "Transpose") for dims in (1, 2, 3)),
)
#: The namespace in which `torch.nn.LSTM` and similar modules look up their functions.
recurrent_functions: Any = _optional(
    "torch:_VF", "Counting recurrent layers on shapes", "recurrent layers raise UsageError when they are called"
)
is_transformed: Callable[[torch.Tensor], bool] = _function(
    "torch._C:_functorch.is_functorch_wrapped_tensor", "Counting recurrent layers on shapes"
)
choose_attention: Callable[..., int] = _function(
    "torch:_fused_sdp_choice", "Counting scaled_dot_product_attention on shapes"
)
fused_attention_on_cpu: Callable[..., Any] = _function(
    "torch:ops.aten._scaled_dot_product_flash_attention_for_cpu.default",
    "Counting scaled_dot_product_attention on shapes",
)

# TorchScript.

inline_calls: Callable[[Any], None] = _function("torch._C:_jit_pass_inline", "Measuring TorchScript models")
function_from_graph: Callable[[str, Any], Any] = _function(
    "torch._C:_create_function_from_graph", "Measuring frozen TorchScript models"
)
_compiled_module = _attribute("ScriptModule", "_c", "Measuring TorchScript models")
_script_class: Callable[[Any], Any] = _function(
    "torch._C:ConcreteModuleType.from_jit_type", "Counting packed weights of TorchScript models"
)
_method_names = _attribute("ScriptModule._c", "_method_names", "Measuring TorchScript models")
_get_method = _attribute("ScriptModule._c", "_get_method", "Measuring TorchScript models")
_tensor_type: Any = _optional(
    "torch._C:TensorType", "Reading the types in schemas and graphs", "the kind of a type is compared instead"
)
_TENSOR_TYPE: Any = None if _tensor_type is None else _tensor_type.get()


def script_identity(module: torch.jit.ScriptModule) -> int:
    """Return the hash of the module's C++ object. The owner of each method of the module has the same hash."""
    return hash(_compiled_module(module))


def script_methods(module: torch.jit.ScriptModule) -> list[Any]:
    """Return the methods that TorchScript runs for a module."""
    compiled = _compiled_module(module)
    get = _get_method(compiled)
    return [get(name) for name in _method_names(compiled)()]


def script_attributes(module: torch.jit.ScriptModule) -> list[Any]:
    """Return the values of a module's attributes in TorchScript, without parameters and submodules."""
    compiled = _compiled_module(module)
    return [compiled.getattr(name) for name in _script_class(script_type(compiled)()).get_attributes()]


def is_tensor_type(kind: Any) -> bool:
    """Return whether a type in a schema or in a graph is the type of a tensor."""
    return bool(kind.kind() == "TensorType" if _TENSOR_TYPE is None else kind.isSubtypeOf(_TENSOR_TYPE))


# Tracers.

#: (owner, name) of the functions that run a model and record what it does. The functions of `torch.jit` are C++
#: functions, which Python code of `torch.jit` looks up on each call. `make_fx` and `torch.export` use the tracer of
#: `torch.fx`.
_TRACING = (
    ("torch._C", "_create_graph_by_tracing"),
    ("torch._C", "_create_function_from_trace"),
    ("torch._C", "_create_function_from_trace_with_dict"),
    ("torch._C:ScriptModule", "_create_method_from_trace"),
    ("torch._C:ScriptModule", "_create_method_from_trace_with_dict"),
    ("torch.jit._trace", "_check_trace"),
    ("torch.fx._symbolic_trace:Tracer", "trace"),
)
NAMES.update(
    (
        f"{owner}{'.' if ':' in owner else ':'}{name}",
        PrivateName("Tracing models while watching", "what the tracer runs is counted, and tracing may go wrong"),
    )
    for owner, name in _TRACING
)


#: Returns whether `torch.jit.trace` is recording on this thread. Even the sizes of tensors are recorded then.
is_tracing: Callable[[], bool] = _optional(
    "torch._C:_is_tracing",
    "Noticing work on other threads",
    "tracing on another thread while a measurement lasts may go wrong",
    lambda: False,
)


@functools.cache
def _tracing_owners() -> tuple[tuple[Any, str], ...]:
    owners = ((_look_up(owner), name) for owner, name in _TRACING)
    return tuple((owner, name) for owner, name in owners if hasattr(owner, name))


def tracing_functions() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Return (owner, name, function) for each function of PyTorch that runs a model and records what it does."""
    return [(owner, name, getattr(owner, name)) for owner, name in _tracing_owners()]


#: The module of `torch._dynamo.explain`, and the name of the function with which it compiles what it explains. The
#: module is loaded with the compiler.
EXPLAINER, EXPLAINED_BY = "torch._dynamo.eval_frame", "optimize"
NAMES[f"{EXPLAINER}:{EXPLAINED_BY}"] = PrivateName(
    "Explaining models while watching", "the model that `torch._dynamo.explain` runs is counted"
)

#: The function of the compiler by which `torch.export` records a model.
_EXPORT = "export"
NAMES[f"torch._dynamo:{_EXPORT}"] = PrivateName(
    "Exporting models while watching", "exporting in a watched block fails if PyTorch does not compile under modes"
)


def compiler_tracing_functions() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Return (owner, name, function) for the function of the compiler by which `torch.export` records a model.

    The list is empty if PyTorch compiles under modes, or if the compiler is not loaded.
    """
    compiler = None if compiles_under_modes else sys.modules.get(COMPILER)
    return [(compiler, _EXPORT, getattr(compiler, _EXPORT))] if hasattr(compiler, _EXPORT) else []


# `torch.compile`.

#: The module of the compiler. PyTorch imports it on first use. If it is missing, the compiler counts as not loaded.
COMPILER = "torch._dynamo"
#: Modules that define the errors of the compiler. If they are missing, such errors are reported as errors of the model.
COMPILER_ERRORS = frozenset(("torch._dynamo.exc", "torch._inductor.exc"))
#: The attribute of a compiled function that holds the original. If it is missing, a compiled function runs as it is.
COMPILED_FROM = "_torchdynamo_orig_callable"

original_module = _attribute("OptimizedModule", "_orig_mod", "Measuring modules compiled by torch.compile")


_eval_frame: Any = _optional(
    "torch._C:_dynamo.eval_frame",
    "Compiling functions while watching",
    "the compiler looks at our functions too, which is slow",
)


def keep_uncompiled(function: Any) -> None:
    """Keep `torch.compile` from compiling ``function`` and the functions that ``function`` calls.

    PyTorch 2.6 may still compile the functions that ``function`` calls.
    """
    if hasattr(_eval_frame, "set_code_exec_strategy"):
        skip = _eval_frame._FrameAction.SKIP
        _eval_frame.set_code_exec_strategy(function.__code__, _eval_frame._FrameExecStrategy(skip, skip))
    elif hasattr(_eval_frame, "skip_code"):
        _eval_frame.skip_code(function.__code__)


#: The class that compiles a graph with the default backend. Its kernels do not reach the dispatcher. If the name is
#: missing, such kernels are not noted as unknown.
INDUCTOR: Any = _optional(
    "torch:_TorchCompileInductorWrapper", "Noting compiled kernels while watching", "such kernels are not noted"
)
#: The module whose class runs the kernels of such a graph. It is loaded when the first graph is compiled.
INDUCTOR_GRAPHS = "torch._inductor.output_code"
NAMES[f"{INDUCTOR_GRAPHS}:CompiledFxGraph"] = PrivateName(
    "Noting compiled kernels while watching", "such kernels are not noted"
)


def compiler_is_loaded() -> bool:
    """Return whether PyTorch's compiler is loaded in this process. Only a loaded compiler can be switched off."""
    return COMPILER in sys.modules


# Higher-order operators, which take functions.

#: Name → higher-order operator, for the operators whose modules are loaded.
higher_order_operators: Mapping[str, HigherOrderOperator] | None = _optional(
    "torch._ops:_higher_order_ops", "Counting branches and loops", "branches and loops raise UsageError when they run"
)
safe_softmax: Callable[..., torch.Tensor] = _function("torch:_safe_softmax", "Counting flex_attention")
softmax_backward: Callable[..., torch.Tensor] = _function("torch:_softmax_backward_data", "Counting flex_attention")
#: The module in which `flex_attention` traces its functions. If it is missing, this tracing is counted.
FLEX_OPERATORS = "torch._higher_order_ops.flex_attention"
#: The check in the public module that refuses meta tensors. If it is missing, PyTorch does not refuse them.
FLEX_DEVICE_CHECK = "_validate_device"
flex_vmap = _imported_later("torch.nn.attention.flex_attention:_vmap_for_bhqkv", "Counting flex_attention")
flex_indexing = _imported_later(
    "torch._dynamo._trace_wrapped_higher_order_op:TransformGetItemToIndex", "Counting flex_attention"
)
triton_kernels = _imported_later(
    "torch._higher_order_ops.triton_kernel_wrap:kernel_side_table", "Counting kernels written in Triton"
)

# Process groups and DTensors.

fake_store = _imported_later("torch.testing._internal.distributed.fake_pg:FakeStore", "flops_budget.world")
_fake_work: Any = _optional(
    "torch._C._distributed_c10d:FakeWork",
    "Counting collectives that write in place",
    "a fake process group makes the handle of a finished collective; 2.6 does not have FakeWork",
)
_fake_process_group = _imported_later(
    "torch._C._distributed_c10d:FakeProcessGroup", "Counting collectives that write in place"
)


def finished_work() -> Any:
    """Return the boxed handle of a collective that has finished."""
    work = _fake_process_group()(0, 1).barrier() if _fake_work is None else _fake_work()
    return work.boxed()


unbox_process_group = _imported_later("torch._C._distributed_c10d:ProcessGroup.unbox", "Counting collectives")
resolve_process_group = _imported_later("torch._C._distributed_c10d:_resolve_process_group", "Counting collectives")
#: The module of asynchronous collectives. If it is missing, this package does not wait for them.
ASYNC_COLLECTIVES = "torch.distributed._functional_collectives"
local_tensor = _attribute("DTensor", "_local_tensor", "Measuring DTensors")
dtensor_spec = _attribute("DTensor", "_spec", "Measuring DTensors")
dtensor_dispatcher = _attribute("DTensor", "_op_dispatcher", "Measuring DTensors")
shard_dim_alltoall = _imported_later("torch:ops._dtensor.shard_dim_alltoall", "Measuring DTensors")
#: Methods with which DTensors run operators on whole tensors. If a version lacks a method, it does not call it either.
DTENSOR_PROPAGATION = ("propagate_op_sharding", "propagate_op_sharding_non_cached", "_propagate_tensor_meta")
#: Functions that empty the caches of DTensors. PyTorch 2.6 has only the last two. If one is missing, its cache is kept.
_DTENSOR_CACHES = (
    "torch.distributed.tensor.debug:_clear_sharding_prop_cache",
    "torch.distributed.tensor._redistribute:clear_redistribute_planner_cache",
    "torch.distributed.tensor._redistribute:_gen_transform_infos.cache_clear",
    "torch.distributed.tensor:DTensor._op_dispatcher.sharding_propagator.propagate_op_sharding.cache.cache_clear",
)


def clear_dtensor_caches() -> None:
    """Empty the caches in which DTensors store values that depend on the current rank."""
    for name in _DTENSOR_CACHES:
        clear = _look_up(name)
        if clear is not _ABSENT:
            clear()


# DistributedDataParallel and FSDP2.

_DDP = "Measuring DistributedDataParallel"
communication_hooks = _attribute("DistributedDataParallel", "_comm_hooks", _DDP)
register_gradient_hooks = _attribute("DistributedDataParallel", "_register_accum_grad_hook", _DDP)
synchronizes_buffers = _attribute("DistributedDataParallel", "_check_sync_bufs_pre_fwd", _DDP)
synchronize_buffers = _attribute("DistributedDataParallel", "_sync_buffers", _DDP)
_DDP_STATE = ("_use_python_reducer", "_accum_grad_hooks", "_pre_forward")
ATTRIBUTES.update((f"DistributedDataParallel.{name}", PrivateName(_DDP, _REFUSED)) for name in _DDP_STATE)


def reduce_in_python(module: Any, before_forward: Callable[..., Any]) -> None:
    """Make a `DistributedDataParallel` reduce gradients by hooks in Python.

    It also calls ``before_forward`` before each forward pass.

    The attributes are set without `torch.nn.Module.__setattr__`, because that method would refuse some of them.
    """
    for name in _DDP_STATE:
        if not hasattr(module, name):
            raise missing(_DDP, f"DistributedDataParallel.{name}")
    module.__dict__.update(_comm_hooks=[], _use_python_reducer=True, _accum_grad_hooks=[], _pre_forward=before_forward)


_FSDP = "Measuring a model sharded by FSDP2"
fsdp_group_class = _imported_later("torch.distributed.fsdp._fully_shard._fsdp_param_group:FSDPParamGroup", _FSDP)
fsdp_state_class = _imported_later("torch.distributed.fsdp._fully_shard._fsdp_state:FSDPState", _FSDP)
set_module_state = _imported_later("torch.distributed._composable_state:_insert_module_state", _FSDP)
module_states: Callable[[], MutableMapping[Any, Any]] = _imported_later(
    "torch.distributed._composable_state:_module_state_mapping", _FSDP
)
#: The method that refuses meta tensors. If it is missing, PyTorch does not refuse them.
FSDP_META_CHECK = "_validate_no_meta_params"
fsdp_modules = _attribute("FSDPState", "_modules", _FSDP)
fsdp_flat_data = _attribute("FSDPParam", "_sharded_param_data", _FSDP)
_fsdp_group = _attribute("FSDPState", "_fsdp_param_group", _FSDP)


def fsdp_groups(state: Any) -> list[Any]:
    """Return the parameter groups of an `FSDPState`: one group in PyTorch 2.6, several in newer versions."""
    groups = getattr(state, "_fsdp_param_groups", None) or [_fsdp_group(state)]
    return [group for group in groups if group is not None]


ATTRIBUTES["FSDPState._fsdp_param_groups"] = PrivateName(_FSDP, "_fsdp_param_group is asked instead")

# Other files read the attributes below directly, because a function call for each access would slow down every
# measurement. This file checks once that they exist, before a measurement begins.

_MODULE = torch.nn.Module()
_DIRECT: Mapping[str, tuple[Any, str]] = {
    "Module._parameters": (_MODULE, "Counting parameters"),
    "Module._buffers": (_MODULE, "Counting buffers"),
    "Module._modules": (_MODULE, "Following calls of modules"),
    "Module._non_persistent_buffers_set": (_MODULE, "Cloning modules"),
    "Module._call_impl": (_MODULE, "Following calls of modules"),
    "Module._compiled_call_impl": (_MODULE, "Following calls of modules"),
    "UntypedStorage._cdata": (torch.UntypedStorage, "Telling storages apart"),
    "Node._sequence_nr": (torch.autograd.Function, "Crediting the backward pass to modules"),
}
_MISSING = [
    (feature, name) for name, (owner, feature) in _DIRECT.items() if not hasattr(owner, name.rpartition(".")[2])
]

ATTRIBUTES.update((name, PrivateName(feature, "nothing is measured")) for name, (_, feature) in _DIRECT.items())


def require_attributes() -> None:
    """Raise an error if this version of PyTorch lacks an attribute without which nothing can be counted.

    Raises:
        UsageError: an attribute that other files read directly does not exist.
    """
    if _MISSING:
        raise missing(*_MISSING[0])


#: Modules of PyTorch's meta kernels. Forward-mode derivatives run a meta kernel without an operator, in order to find
#: the shape of a product with zeros.
META_KERNELS = ("torch._refs", "torch._prims", "torch._meta_registrations", "torch._decomp")
