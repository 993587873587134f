"""What a Python solution needs to find the library of the versions that it was written for (3.4 to 3.11).

Called by worker threads; pure functions. What a source mentions and newer interpreters no longer have is put back
before the solution starts, by a module `sitecustomize` in a folder of its own beside it: the solution itself
is not touched, so that line numbers and tracebacks stay what they are. Nothing is added to a source that mentions none
of it, and each result says what was put back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: The folder beside the solution; hidden, so that no solution's own module is called so.
FOLDER = ".nbrun"
FILE = f"{FOLDER}/sitecustomize.py"
#: Integers of any length become text and back (3.11 refuses more than 4,300 digits).
LONG_INTEGERS = "sys.set_int_max_str_digits(0)"


class Prelude(NamedTuple):
    """What was put back.

    Attributes:
        names: what a result says of it.
        files: name -> content, beside the solution's own files.
        env: environment variables; `{folder}` is the solution's folder.
    """

    names: tuple[str, ...]
    files: Mapping[str, bytes]
    env: Mapping[str, str]


NONE = Prelude((), {}, {})


class _Patch(NamedTuple):
    """Something that is gone: how a source mentions it, and the code that puts it back."""

    name: str
    mentioned: tuple[bytes, ...]
    code: str

    def is_mentioned(self, source: bytes) -> bool:
        """Return whether all patterns occur, each anywhere: one pattern for all could take the square of the length."""
        return all(re.search(pattern, source) for pattern in self.mentioned)


_ABCS = (
    "Awaitable Coroutine AsyncIterable AsyncIterator AsyncGenerator Hashable Iterable Iterator Generator Reversible "
    "Sized Container Callable Collection Set MutableSet Mapping MutableMapping MappingView KeysView ItemsView "
    "ValuesView Sequence MutableSequence ByteString"
)
_PUT = """
def _put(module, name, value):
    if not hasattr(module, name):
        setattr(module, name, value)
"""


def _both(module: str, names: str) -> tuple[bytes, ...]:
    """Return patterns of a source that mentions a module and one of these names."""
    return rf"\b{module}\b".encode(), rf"\b(?:{names})\b".encode()


_PATCHES = (
    _Patch(
        "collections.abc's names in collections (until 3.9)",
        _both("collections", _ABCS.replace(" ", "|")),
        f'''
import collections, collections.abc
for _name in "{_ABCS}".split():
    if hasattr(collections.abc, _name):
        _put(collections, _name, getattr(collections.abc, _name))
''',
    ),
    _Patch(
        "fractions.gcd (until 3.8)",
        _both("fractions", "gcd"),
        """
import fractions, math
def gcd(a, b):
    if type(a) is int is type(b):
        return -math.gcd(a, b) if (b or a) < 0 else math.gcd(a, b)
    while b:
        a, b = b, a % b
    return a
gcd.__module__ = "fractions"
_put(fractions, "gcd", gcd)
""",
    ),
    _Patch(
        "time.clock (until 3.7)",
        _both("time", "clock"),
        """
import time
_put(time, "clock", time.process_time)
""",
    ),
    _Patch(
        "random.sample of sets (until 3.10), random.shuffle with a function (until 3.10)",
        _both("random", "sample|shuffle"),
        """
import random, functools
def _sample(sample):
    @functools.wraps(sample)
    def sample_(population, k, **more):
        return sample(tuple(population) if isinstance(population, (set, frozenset)) else population, k, **more)
    return sample_
def _shuffle(shuffle, below):
    @functools.wraps(shuffle)
    def shuffle_(x, random=None):
        if random is None:
            return shuffle(x)
        for i in reversed(range(1, len(x))):
            j = int(random() * (i + 1))
            x[i], x[j] = x[j], x[i]
    return shuffle_
random.sample = _sample(random.sample)
random.shuffle = _shuffle(random.shuffle, random.random)
""",
    ),
    _Patch(
        "random.randrange and randint of whole floats (until 3.11)",
        _both("random", "randrange|randint"),
        """
import random, functools
def _whole(function):
    @functools.wraps(function)
    def whole(*numbers):
        return function(*[int(n) if isinstance(n, float) and n.is_integer() else n for n in numbers])
    return whole
random.randrange, random.randint = _whole(random.randrange), _whole(random.randint)
""",
    ),
    _Patch(
        "math.factorial of whole floats (until 3.11)",
        _both("math", "factorial"),
        """
import math
def _of_whole(factorial):
    def factorial_(x):
        return factorial(int(x) if isinstance(x, float) and x.is_integer() else x)
    factorial_.__name__ = "factorial"
    return factorial_
math.factorial = _of_whole(math.factorial)
""",
    ),
    _Patch(
        "threading.Thread.isAlive (until 3.8)",
        _both("threading", "isAlive"),
        """
import threading
_put(threading.Thread, "isAlive", threading.Thread.is_alive)
""",
    ),
    _Patch(
        "inspect.getargspec (until 3.10)",
        _both("inspect", "getargspec"),
        """
import inspect, collections
def _getargspec(function):
    full = inspect.getfullargspec(function)
    return collections.namedtuple("ArgSpec", "args varargs keywords defaults")(*full[:4])
_put(inspect, "getargspec", _getargspec)
""",
    ),
    _Patch(
        "base64.encodestring and decodestring (until 3.8)",
        _both("base64", "encodestring|decodestring"),
        """
import base64
_put(base64, "encodestring", base64.encodebytes)
_put(base64, "decodestring", base64.decodebytes)
""",
    ),
    _Patch(
        "sys.setcheckinterval and getcheckinterval (until 3.8)",
        _both("sys", "setcheckinterval|getcheckinterval"),
        """
import sys
_put(sys, "setcheckinterval", lambda n: None)
_put(sys, "getcheckinterval", lambda: 100)
""",
    ),
    _Patch(
        "html.parser.HTMLParser.unescape (until 3.8)",
        _both("HTMLParser", "unescape"),
        """
import html, html.parser
_put(html.parser.HTMLParser, "unescape", lambda self, s: html.unescape(s))
""",
    ),
    _Patch(
        "asyncio.coroutine (until 3.10)",
        _both("asyncio", "coroutine"),
        """
import asyncio, functools, inspect, types
if hasattr(asyncio.coroutines, "_COROUTINE_TYPES"):  # since 3.12 asyncio.run refuses generators
    asyncio.coroutines._COROUTINE_TYPES += (types.GeneratorType,)
def _coroutine(function):
    if inspect.iscoroutinefunction(function):
        return function
    if inspect.isgeneratorfunction(function):
        return types.coroutine(function)
    @functools.wraps(function)
    def generator(*args, **more):
        result = function(*args, **more)
        if hasattr(result, "__await__"):
            result = yield from result.__await__()
        elif inspect.isgenerator(result):
            result = yield from result
        return result
    return types.coroutine(generator)
_put(asyncio, "coroutine", _coroutine)
""",
    ),
    _Patch(
        "array.array's tostring and fromstring (until 3.8)",
        _both("array", "tostring|fromstring"),
        """
import array
if not hasattr(array.array, "tostring"):
    class _Array(array.array):
        tostring, fromstring = array.array.tobytes, array.array.frombytes
    _Array.__name__ = _Array.__qualname__ = "array"
    array.array = array.ArrayType = _Array
""",
    ),
    _Patch(
        "numpy.int, float, bool and the like (until 1.23), product, Inf and the like (until 1.26)",
        _both(
            "numpy",
            "int|float|bool|object|str|complex|long|unicode|product|cumproduct|alltrue|sometrue|Inf|Infinity|infty|NaN|"
            "NAN|float_|complex_|unicode_|in1d|row_stack|asscalar|msort",
        ),
        """
try:
    import numpy, warnings
except ImportError:
    pass
else:
    _all = dict(int=int, float=float, bool=bool, object=object, str=str, complex=complex, long=int, unicode=str)
    _all.update(Inf=float("inf"), Infinity=float("inf"), infty=float("inf"), NaN=float("nan"), NAN=float("nan"))
    _all.update(float_=numpy.float64, complex_=numpy.complex128, unicode_=numpy.str_, asscalar=lambda a: a.item())
    _all.update(product=numpy.prod, cumproduct=numpy.cumprod, alltrue=numpy.all, sometrue=numpy.any)
    _all.update(row_stack=numpy.vstack, in1d=lambda a, b, **more: numpy.isin(a, b, **more).ravel())
    _all.update(msort=lambda a: numpy.sort(a, axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _name, _value in _all.items():
            _put(numpy, _name, _value)
""",
    ),
)
#: Its folder leaves the path again, and its names die with the module.
_END = f"""
import sys
sys.path[:] = [_path for _path in sys.path if not _path.endswith("/{FOLDER}")]
"""


def prelude_of(files: Mapping[str, bytes]) -> Prelude:
    """Return what these files of a solution need.

    Example:
        >>> prelude_of({"main.py": b"from fractions import gcd"}).names
        ('sys.set_int_max_str_digits(0)', 'fractions.gcd (until 3.8)')
    """
    source = b"\n".join(files.values())
    patches = [patch for patch in _PATCHES if patch.is_mentioned(source)]
    names = (LONG_INTEGERS, *(patch.name for patch in patches))
    env = {"PYTHONINTMAXSTRDIGITS": "0"}
    if not patches:
        return Prelude(names, {}, env)
    code = "".join((_PUT, *(patch.code for patch in patches), _END))
    return Prelude(names, {FILE: code.encode()}, {**env, "PYTHONPATH": f"{{folder}}/{FOLDER}"})
