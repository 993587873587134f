"""Runs beside a solution, in the box: calls its function, or runs test code after it. nbrun never imports this file.

It is the main file of a program whose other file is the solution, on any Python from 3.7 on, with the standard library
alone. What the solution prints goes to stderr, its stdin is empty; stdout is the harness's own, and no part of it is
believed unless the judge, which is outside, finds it right.

    call   stdin: a list or an object of JSON, the arguments     stdout: the result as JSON
    code   stdin: how many bytes of code, the code, a secret     stdout: the secret, once the code has run to its end
"""

from __future__ import annotations

import builtins
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # loading `typing` would take a part of the time of each test
    from collections.abc import Iterator
    from typing import Any

#: What solutions use without importing it, since the judges that they were written for do that for them.
MODULES = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys "
    "json typing time os fractions decimal"
)
NAMES = {
    "collections": "Counter OrderedDict ChainMap UserDict defaultdict deque namedtuple",
    "typing": (
        "Annotated Any Callable ClassVar Final Generic Literal Optional Protocol Tuple Type TypeVar Union "
        "AbstractSet Container Hashable Iterable Iterator Mapping MutableMapping MutableSequence MutableSet "
        "Sequence Sized Awaitable AsyncIterator AsyncIterable Coroutine Collection Reversible SupportsInt "
        "SupportsFloat Deque Dict DefaultDict List Set FrozenSet NamedTuple TypedDict Generator Pattern Match IO "
        "TextIO cast overload NewType NoReturn Self Text"
    ),
    "itertools": (
        "accumulate chain combinations combinations_with_replacement compress count cycle dropwhile filterfalse "
        "groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest batched"
    ),
    "functools": (
        "wraps total_ordering cache cmp_to_key lru_cache reduce partial partialmethod singledispatch cached_property"
    ),
    "heapq": "heappush heappop heapify heapreplace merge nlargest nsmallest heappushpop",
    "bisect": "bisect_left bisect_right insort insort_left insort_right",
    "math": (
        "acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp "
        "expm1 fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm "
        "ldexp lgamma log log10 log1p log2 modf nan nextafter perm pi prod radians remainder sin sinh sqrt tan "
        "tanh tau trunc ulp"
    ),
    "operator": (
        "add and_ attrgetter eq floordiv ge getitem gt itemgetter le lt methodcaller mod mul ne neg not_ or_ sub "
        "truediv xor"
    ),
    "string": (
        "ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits punctuation whitespace"
    ),
    "re": "match fullmatch search subn split findall finditer escape IGNORECASE MULTILINE DOTALL VERBOSE",
    "copy": "deepcopy",
    "datetime": "date timedelta timezone",
    "random": "choice choices gauss getrandbits randint randrange sample seed shuffle uniform",
    "statistics": "mean median median_high median_low mode multimode pstdev pvariance stdev variance",
    "io": "StringIO BytesIO",
    "json": "loads dumps",
    "sys": "maxsize setrecursionlimit stdin stdout stderr",
}
#: Kinds of nodes that define a name -> the attribute that holds it.
DEFINING = {"FunctionDef": "name", "AsyncFunctionDef": "name", "ClassDef": "name", "arg": "arg"}
ONLY_PARSE = 1024  # compile()'s flag that makes a tree
#: Marks what a function that returns nothing made of its first argument.
CHANGED = "(argument)"
#: Marks an argument whose keys are integers, which JSON can't hold.
INT_KEYS = "(int keys)"
RECURSION_LIMIT = 50000  # as the judges that these solutions were written for have it


def free_names(source: bytes, filename: str) -> set[str]:
    """Return the names that a source uses and doesn't define; the tree is walked without loading `ast`."""
    used: set[str] = set()
    defined = set(dir(builtins))
    for node in nodes_of(compile(source, filename, "exec", ONLY_PARSE, True)):
        kind = type(node).__name__
        if kind == "Name":
            (used if type(node.ctx).__name__ == "Load" else defined).add(node.id)
        elif kind == "alias":
            defined.add((node.asname or node.name).partition(".")[0])
        elif kind in DEFINING:
            defined.add(getattr(node, DEFINING[kind]))
    return used - defined


def nodes_of(tree: Any) -> Iterator[Any]:
    """Yield all nodes of a tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for field in node._fields:
            value = getattr(node, field, None)
            waiting += [part for part in (value if isinstance(value, list) else [value]) if hasattr(part, "_fields")]


def provide(space: dict[str, Any], names: set[str], only_modules: bool = False) -> None:
    """Put what these names mean in the standard library into a namespace."""
    for name in names.intersection(MODULES.split()):
        space[name] = __import__(name)
    for module, members in () if only_modules else NAMES.items():
        for name in names.intersection(members.split()).difference(space):
            found = getattr(__import__(module), name, None)
            if found is not None:
                space[name] = found


def load(path: str, space: dict[str, Any], wanted: str) -> None:
    """Run the solution's file in a namespace; a source that is no Python ends the program as a plain report of that.

    `wanted` is the function that the solution must define itself: there is an `add` in `operator` too.
    """
    with open(path, "rb") as file:
        source = file.read()
    filename = os.path.basename(path)
    try:
        provide(space, free_names(source, filename) - {wanted})
        code = compile(source, filename, "exec", 0, True)
    except (SyntaxError, ValueError) as e:
        import traceback

        if not isinstance(e, SyntaxError):
            e = SyntaxError(str(e))
        sys.stderr.write("".join(traceback.format_exception_only(type(e), e)))
        sys.stderr.flush()
        os._exit(1)
    exec(code, space)


def function_of(space: dict[str, Any], name: str) -> Any:
    """Return the function of a name: a method of `Solution`, a function, or a method of any other class."""
    solution: Any = space.get("Solution")
    if has_method(solution, name):
        return getattr(solution(), name)
    if callable(space.get(name)):
        return space[name]
    for value in list(space.values()):
        if has_method(value, name) and value.__module__ == space["__name__"]:
            return getattr(value(), name)
    raise NameError(f"the solution defines no function {name!r}")


def has_method(value: Any, name: str) -> bool:
    """Return whether a value is a class with this method."""
    return isinstance(value, type) and callable(getattr(value, name, None))


def plain(value: Any) -> Any:
    """Return a result as JSON can hold it: tuples as lists, numpy's numbers as numbers, others by name."""
    if value is None or isinstance(value, (bool, str)):
        return value
    for kind, convert in CONVERSIONS:
        if isinstance(value, kind):
            return convert(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if type(value).__name__ in ("Decimal", "Fraction"):
        return int(value) if value == value // 1 else float(value)
    return {"(type)": type(value).__name__, "(repr)": repr(value)[:500]}


#: Types of results, subclasses among them -> how they become what JSON can hold.
CONVERSIONS: tuple[tuple[Any, Any], ...] = (
    (int, int),
    (float, float),
    ((list, tuple), lambda value: [plain(part) for part in value]),
    (dict, lambda value: {str(key): plain(part) for key, part in value.items()}),
)


def with_int_keys(value: dict[str, Any]) -> dict[Any, Any]:
    """Return a mapping as the test means it, whose keys may be integers."""
    return {int(key): inner for key, inner in value[INT_KEYS].items()} if list(value) == [INT_KEYS] else value


def code_of(function: Any) -> Any:
    """Return the code of a function, whatever wraps it; None where it has none."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return getattr(function, "__code__", None)


def returns_nothing(function: Any) -> bool:
    """Return whether a function returns no value anywhere: it was made to change its argument, as LeetCode asks for."""
    import dis

    code = code_of(function)
    if code is None or code.co_flags & 0x2A0:  # of generators and coroutines
        return False
    steps = [(step.opname, step.argval) for step in dis.get_instructions(code)]
    # Before Python 3.12 and since 3.14, a constant is loaded and then returned.
    returned = {steps[at - 1] for at, (name, _) in enumerate(steps) if name == "RETURN_VALUE"}
    constants = {value for name, value in steps if name == "RETURN_CONST"}
    return returned <= {("LOAD_CONST", None)} and constants <= {None}


def call(function: Any, text: bytes) -> bytes:
    """Return the result of a function as JSON; what it made of its first argument if it returns nothing anywhere."""
    import json

    arguments = json.loads(text.decode("utf-8", "surrogatepass"), object_hook=with_int_keys)
    if isinstance(arguments, dict):
        values, result = list(arguments.values()), function(**arguments)
    else:
        values, result = arguments, function(*arguments)
    if result is None and values and isinstance(values[0], (list, dict)) and returns_nothing(function):
        result = {CHANGED: values[0]}
    return json.dumps(plain(result)).encode()


def write_all(fd: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(fd, data) :]


def read_all(fd: int) -> bytes:
    """Return what is left of a stream."""
    parts: list[bytes] = []
    while True:
        part = os.read(fd, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def read_code(fd: int) -> bytes:
    """Return the code of a test; the secret behind it stays unread."""
    head = b""
    while not head.endswith(b"\n"):
        head += os.read(fd, 1)
    size = int(head)
    parts: list[bytes] = []
    while size:
        part = os.read(fd, size)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main(kind: str, name: str, filename: str) -> None:
    """Run the solution `filename`, and either call its function `name` or run the code of a test after it."""
    # Names of this function's own: what a solution puts into builtins or this module changes none of them.
    run, to_code, assertion, read, rest, answer, leave = (
        exec,
        compile,
        AssertionError,
        read_code,
        read_all,
        write_all,
        os._exit,
    )
    given, told = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.setrecursionlimit(RECURSION_LIMIT)
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    module = type(sys)("solution")
    sys.modules["solution"] = module
    space = module.__dict__
    load(os.path.join(os.path.dirname(os.path.abspath(__file__)), filename), space, name)
    if kind == "function":
        report = call(function_of(space, name), rest(given))
    else:
        code = read(given)
        provide(space, free_names(code, "tests.py") - set(space), only_modules=True)
        try:
            run(to_code(code, "tests.py", "exec", 0, True), space)
        except assertion:
            report = b""
            try:
                import traceback

                traceback.print_exc()
            except Exception:
                pass  # whatever the solution made of builtins
        else:
            report = rest(given)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # whatever the solution put in its place
    answer(told, report)
    leave(0)
