"""The compiler of .metal files: what it rewrites, what it refuses, and that address spaces are real where it only parses."""

from __future__ import annotations

import emulator
import pytest
import toolchain
from msl import compiler
from msl.rewrite import Argument, FunctionConstant, Instance, rewrite
from msl.tokens import MslError, Tokens

HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"
FILES = sorted(toolchain.HERE.glob("kernels/*.metal"))


def test_tokens_are_the_source():
    for path in FILES:
        assert Tokens(path.read_text()).source() == path.read_text()


def test_rewriting_keeps_lines():
    """Messages of the compiler and the checker name the source's own lines."""
    for path in FILES:
        source = path.read_text()
        assert rewrite(source).source.count("\n") == source.count("\n")


def test_arguments_and_limits():
    kernel, = rewrite("""[[max_total_threads_per_threadgroup(96)]] kernel void f(device const float* a [[buffer(3)]],
        constant S& s [[ buffer( 0 ) ]], device float* b [[buffer(1)]], threadgroup half *m [[threadgroup(2)]],
        uint2 g [[threadgroup_position_in_grid]], ushort n [[dispatch_threads_per_threadgroup]]) {}""").kernels
    assert kernel.arguments == [Argument("buffer", 3, True), Argument("buffer", 0, True), Argument("buffer", 1, False),
                                Argument("threadgroup_memory", 2, False), Argument("threadgroup_position_in_grid", 0, True),
                                Argument("threads_per_threadgroup", 0, True)]
    assert kernel.max_threads == 96 and not kernel.is_template


def test_instances_and_constants():
    r = rewrite("""constant uint kWidth [[function_constant(4)]];
        template <typename T, int N> kernel void f(device T* a [[buffer(0)]]) {}
        template [[host_name("f_a")]] kernel void f<Pair<int, 2>, 3>(device int*);
        template [[host_name("f_b")]] kernel decltype(f<half, 1>) f<half, 1>;""")
    assert r.constants == [FunctionConstant(4, "kWidth", "uint")]
    assert r.instances == [Instance("f_a", "f", "<Pair<int, 2>, 3>"), Instance("f_b", "f", "<half, 1>")]
    assert r.kernels[0].is_template


@pytest.mark.parametrize("source, message", [
    ("kernel void f(device float* a [[buffer(0)]], device float* b [[buffer(0)]]) {}", "two arguments share one binding index"),
    ("kernel void f(device float* a) {}", "argument without an attribute"),
    ("kernel void f(float* a [[buffer(0)]]) {}", "neither device nor constant"),
    ("kernel void f(device float* a [[threadgroup(0)]]) {}", "is not threadgroup"),
    ("kernel void f(uint a [[thread_position]]) {}", "attribute .*thread_position.* is not supported"),
    ("kernel void f(device float* a [[buffer(31)]]) {}", "31 bindings"),
    ("constant uint k [[function_constant(0)]] = 3;", "expected ; after its attribute"),
    ("constant uint a [[function_constant(0)]]; constant uint b [[function_constant(0)]];", "two function constants have index 0"),
    ('template <class T> kernel void f() {} template [[host_name("g")]] kernel void h<int>();', "unknown kernel: h"),
    ("kernel void f() {} kernel void f() {}", "two kernels are called f|redefinition"),
    ("kernel void f(device float* a [[buffer(0)]]) { a[0] = y; }", "program_source:3:.* error: use of undeclared identifier 'y'"),
    ('#include "missing.h"', "missing.h"),
])
def test_refused(source, message):
    with pytest.raises(MslError, match=message):
        emulator.Library(HEAD + source)


# One function and a kernel in which {} stands for a statement.
SPACES = HEAD + """
static float from_device(device const float* p) { return p[0]; }
static float from_threadgroup(threadgroup const float* p) { return p[0]; }
static float from_thread(thread const float* p) { return p[0]; }
template <typename P> static float from_any(P p) { return p[0]; }
struct Block { half d; uchar q[4]; };
kernel void k(device const float* a [[buffer(0)]], constant float& c [[buffer(1)]], device Block* blocks [[buffer(2)]],
              threadgroup float* s [[threadgroup(0)]], uint t [[thread_position_in_grid]]) {
  float v[4] = {0};
  threadgroup float local[4];
  (void)v;
  (void)local;
  STATEMENT
}
"""


@pytest.mark.parametrize("statement", [
    "from_device(a); from_threadgroup(s); from_thread(v); from_threadgroup(local); from_any(a); from_any(s); from_any(v);",
    "device const Block& b = blocks[t]; device const uchar* q = b.q; s[t] = q[0] + b.d;",
    "simdgroup_float8x8 m; simdgroup_load(m, a, 8); simdgroup_load(m, s, 8); simdgroup_store(m, s, 8);",
    "threadgroup atomic_uint* n = (threadgroup atomic_uint*)s; atomic_fetch_add_explicit(n, 1u, memory_order_relaxed);",
    "float4 x = (float4)*(device const float4*)a; s[t] = dot(x, float4(c));",
])
def test_address_spaces_accept(statement):
    assert compiler.check_address_spaces(SPACES.replace("STATEMENT", statement)) == ""


@pytest.mark.parametrize("statement", [
    "from_device(s);",
    "from_threadgroup(a);",
    "from_thread(a);",
    "from_thread(local);",
    "device const float* q = s;",
    "float* q = a + t;",
    "thread const float* q = &c;",
    "c = 1.0f;",
    "device float* q = a;",
    "device const uchar* q = (threadgroup const uchar*)s;",
    "device const Block& b = blocks[t]; thread const uchar* q = b.q;",
    "device const float* q = t ? a : s;",
    "int4 i = 1; float4 f = i;",
    "float4 f = float4(1, 2, 3);",
    "int x = dot(int4(1), int4(2));",
    "if constexpr (true) {}",  # C++17
    "auto [x, y] = Block{};",
])
def test_address_spaces_refuse(statement):
    with pytest.raises(MslError, match="error:"):
        compiler.check_address_spaces(SPACES.replace("STATEMENT", statement))


def test_compiled_once():
    source = FILES[0].read_text()
    first = compiler.compile_library(source)
    assert compiler.compile_library(source) == first
    assert compiler.compile_library(source, check=True) != first
    assert compiler.compile_library(source + "\nkernel void another() {}") != first
