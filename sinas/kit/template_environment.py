"""Jinja's sandbox, made finite: what templates can reach, and what each operation costs them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from markupsafe import Markup
from typing_extensions import override

from sinas.kit.template_filters import counted, filters, pay_for_replacing, tests
from sinas.kit.template_meter import TemplateError, check_number, is_collection, meter, pay_for

_MAX_EXPONENT = 64
_STEP = 50
# Methods of texts: none of them makes a long text out of a number, or something else than a text.
_TEXT_METHODS = frozenset(
    {
        "capitalize",
        "casefold",
        "count",
        "endswith",
        "find",
        "index",
        "isalnum",
        "isalpha",
        "isascii",
        "isdecimal",
        "isdigit",
        "isidentifier",
        "islower",
        "isnumeric",
        "isprintable",
        "isspace",
        "istitle",
        "isupper",
        "join",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "unescape",
        "upper",
    }
)
_METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, _TEXT_METHODS),
    (Mapping, frozenset({"get", "items", "keys", "values"})),
    (list, frozenset({"count", "index"})),
    (tuple, frozenset({"count", "index"})),
    # Numbers turn into bytes of any length, and bytes into more of them.
    (int, frozenset()),
    (float, frozenset()),
    (bytes, frozenset()),
)
_SHOWN = (int, float, type(None), Undefined)


class _Namespace(Namespace):
    """`namespace()`, whose printing does not print what is in it, and what is in that."""

    @override
    def __repr__(self) -> str:
        return "<namespace>"


class _Compiler(CodeGenerator):
    """Puts a call of the environment around every operation that costs something."""

    def _around(self, method: str, visit: Callable[..., None], node: Any, frame: Frame) -> None:
        self.write(f"environment.{method}(")
        visit(node, frame)
        self.write(")")

    @override
    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        self._around("stepped", super().visit_Compare, node, frame)

    @override
    def visit_Test(self, node: nodes.Test, frame: Frame) -> None:
        self._around("stepped", super().visit_Test, node, frame)

    @override
    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._around("made", super().visit_List, node, frame)

    @override
    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._around("made", super().visit_Dict, node, frame)

    @override
    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._around("made", super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    @override
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined(context, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    @override
    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:
        for loop in node.find_all(nodes.For):
            loop.iter = nodes.Filter(
                loop.iter, "counted", [], [], None, None, lineno=loop.iter.lineno
            ).set_environment(self.environment)
        super().visit_Template(node, frame)

    @override
    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:
        plain = sum(len(part.data) for part in node.nodes if isinstance(part, nodes.TemplateData))
        self.writeline(f"environment.stepped(None, {plain})", node)
        super().visit_Output(node, frame)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Templates see JSON values only; what they do with them is paid for."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})
    code_generator_class = _Compiler

    def __init__(self, undefined: type[Undefined], *, escapes: bool, trims: bool) -> None:
        super().__init__(
            undefined=undefined,
            autoescape=escapes,
            trim_blocks=trims,
            lstrip_blocks=trims,
            keep_trailing_newline=not trims,
            # Else constants are worked out while it compiles, when nobody counts.
            optimized=False,
            finalize=_shown,
        )
        del self.globals["lipsum"]
        self.globals["namespace"] = _Namespace
        self.filters = {**filters(), "counted": counted}
        self.tests = tests()

    @override
    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, allowed in _METHODS:
            if isinstance(obj, kind):
                return attr in allowed
        return super().is_safe_attribute(obj, attr, value)

    @override
    def wrap_str_format(self, value: Any) -> None:
        """Jinja would let `str.format` through in a guarded form that still pads without end."""

    @override
    def getitem(self, obj: Any, argument: Any) -> Any:
        value = super().getitem(obj, argument)
        if isinstance(argument, slice):
            meter().spend(len(value) if hasattr(value, "__len__") else 1)
        return value

    @override
    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        meter().spend(_STEP)
        for argument in (*args, *kwargs.values()):
            if is_collection(argument):
                pay_for(argument)
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str):
            _pay_for_method(owner, obj.__name__, args)
        result = super().call(context, obj, *args, **kwargs)
        if not isinstance(obj, Macro) and (isinstance(owner, str) or is_collection(result)):
            pay_for(result)
        return result

    @override
    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (_is_small(left) and _is_small(right)):
            raise TemplateError(f"Only numbers up to {_MAX_EXPONENT} may be raised to a power.")
        if operator == "%" and isinstance(left, str | bytes):
            raise TemplateError("Texts cannot be formatted with %; use |format, or join with ~.")
        pay_for(left)
        pay_for(right)
        if operator == "*":
            _pay_for_repeating(left, right)
        result = super().call_binop(context, operator, left, right)
        check_number(result)
        return result

    def stepped(self, value: Any, work: int = 0) -> Any:
        """`value`, after one step was paid for."""
        meter().spend(_STEP + work)
        return value

    def made(self, value: Any) -> Any:
        """A list, tuple or dictionary, after its contents were paid for.

        Dictionaries hash their keys; a tuple as a key was paid for as a tuple.
        """
        meter().weigh(value)
        return value

    def joined(self, context: Context, parts: Sequence[Any]) -> str:
        """What `a ~ b` makes; safe texts stay safe, and others are escaped beside them."""
        for part in parts:
            pay_for(part)
        if context.eval_ctx.autoescape and any(hasattr(part, "__html__") for part in parts):
            return Markup("").join(parts)
        return "".join(str(part) for part in parts)


@pass_context
def _shown(context: Context, value: Any) -> Any:
    """What `{{ value }}` prints."""
    del context
    if is_collection(value) or isinstance(value, str):
        pay_for(value)
    elif not (isinstance(value, _SHOWN) or hasattr(value, "__html__")):
        raise TemplateError(
            f"A {type(value).__name__} cannot be printed; make a list of it with |list, or a text "
            "with |join."
        )
    return value


def _is_small(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= _MAX_EXPONENT


def _pay_for_repeating(left: object, right: object) -> None:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(count, int) and isinstance(sequence, str | bytes | list | tuple):
            # Its contents are there as often: what is in a list is printed each time.
            meter().spend(meter().weigh(sequence) * max(count, 0))


def _pay_for_method(text: str, method: str, args: tuple[Any, ...]) -> None:
    meter().spend(len(text))
    if method == "replace" and len(args) >= 2:
        pay_for_replacing(text, str(args[0]), str(args[1]))
    elif method == "join" and args:
        # Whatever it is that is joined, Python would first make a list of it.
        count = len(args[0]) if hasattr(args[0], "__len__") else None
        if count is None:
            raise TemplateError("join takes a list; make one with |list.")
        meter().spend(count * (len(text) + 1))
