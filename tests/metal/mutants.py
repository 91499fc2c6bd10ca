"""Bugs to seed into csrc/metal, each with the case of emulated/mutants.py that must notice it: a test of the tests.

A mutant is a text of the source and what to read instead. If a source has changed so that the text is not there any more, the
test says so: give the mutant a new text, or replace it by a bug that the new code could have.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    name: str
    case: str  # of emulated/mutants.py
    old: str
    new: str
    check: bool = False  # noticed by the checker, not (or not surely) by a wrong result
    file: str = ""  # of csrc/metal, for host code


TG = "threadgroup_barrier(mem_flags::mem_threadgroup);"
DEVICE = "threadgroup_barrier(mem_flags::mem_device);"


def _race(name: str, case: str, old: str, new: str) -> Mutant:
    return Mutant(name, case, old, new, check=True)


KERNELS = [
    # common.h
    _race("sum: shared memory is used again too early", "decode", f"  {TG}\n  if (thread_at.lane == 0) shared", "  if (thread_at.lane == 0) shared"),
    _race("sum: no barrier after writing", "decode", f"= part;\n  {TG}", "= part;"),
    _race("sum: a barrier for device memory", "decode", f"= part;\n  {TG}", f"= part;\n  {DEVICE}"),
    _race("sum: a barrier of the simdgroup", "decode", f"= part;\n  {TG}", "= part;\n  simdgroup_barrier(mem_flags::mem_threadgroup);"),
    Mutant("sum: the first simdgroup is left out", "decode", "for (uint i = 0; i < thread_at.simdgroups; ++i) sum += shared[i];",
           "for (uint i = 1; i < thread_at.simdgroups; ++i) sum += shared[i];"),
    Mutant("norm: lane for thread", "decode", "for (uint quad = thread_at.index; quad < kWidth / 4; quad += thread_at.count()) {\n    const float4 shifted",
           "for (uint quad = thread_at.lane; quad < kWidth / 4; quad += thread_at.count()) {\n    const float4 shifted"),
    Mutant("norm: variance with the wrong sign", "decode", "sums.y - sums.x * sums.x", "sums.y + sums.x * sums.x"),
    Mutant("norm: no bias", "decode", "* statistics.y * weight + bias;", "* statistics.y * weight;"),
    Mutant("accumulate: overwrites", "decode", "? *out + sum :", "? sum :"),
    Mutant("squared ReLU: not squared", "decode", "return positive * positive;", "return positive;"),
    Mutant("sigmoid: wrong sign", "decode", "precise::exp(-x))", "precise::exp(x))"),
    Mutant("parts: off by one", "decode", "threadgroup_x >= parts[part + 1].first_group", "threadgroup_x > parts[part + 1].first_group"),
    # embed.h
    _race("embed: no barrier between row and norm", "decode", f"  {DEVICE}\n  const float2 statistics", "  const float2 statistics"),
    _race("embed: wrong memory flags", "decode", f"  {DEVICE}\n  const float2 statistics", f"  {TG}\n  const float2 statistics"),
    _race("embed: normed while others read", "decode", f"  {DEVICE}  // all have read x\n", ""),
    Mutant("embed: next token's row", "decode", "u64(token) * arguments.row_bytes", "u64(token + 1) * arguments.row_bytes"),
    # mix.metal
    Mutant("shift: previous row is this one", "prefill", "is_first ? x : x - arguments.stride", "x"),
    Mutant("shift: the first sequence's start only", "batch", "const bool is_first = row == info.first_row;", "const bool is_first = row == 0;"),
    Mutant("shift: state of the first row", "prefill", "row + 1 == info.first_row + info.rows", "row == info.first_row"),
    Mutant("shift: mix the wrong way", "prefill", "h + (previous - h) * step", "previous + (h - previous) * step"),
    _race("shift: every mix writes the state", "prefill", "if (mix == 0 && row + 1", "if (row + 1"),
    _race("shift: a fresh state is read", "prefill", "} else if (!is_fresh(info)) {", "} else {"),
    Mutant("head: row after the last", "prefill", "+ sequences[group].rows - 1", "+ sequences[group].rows - 2"),
    # mix_linear.h
    _race("mix_linear: no barrier before the matrix", "decode", f"mixed[quad] = float4(0.0f);\n  {TG}", "mixed[quad] = float4(0.0f);"),
    _race("mix_linear: a barrier for device memory", "decode", f"mixed[quad] = float4(0.0f);\n  {TG}", f"mixed[quad] = float4(0.0f);\n  {DEVICE}"),
    _race("mix_linear: every lane writes", "decode", "if (lane % kLanes == 0 && first + r < part.rows) finish_value", "if (first + r < part.rows) finish_value"),
    _race("mix_linear: every threadgroup keeps the state", "five", "arguments.keeps_state != 0 && group == 0;", "arguments.keeps_state != 0;"),
    Mutant("mix_linear: no passes but the first", "five", "pass < kPasses; ++pass, first += rows_of_pass", "pass < kPasses; ++pass"),
    Mutant("mix_linear: the state is not kept", "five", "if (keeps_state) ((device float4*)", "if (false) ((device float4*)"),
    _race("wkv7: LoRAs are read before they are there", "five", f"head_lora[at] = sum;\n    }}\n    {TG}", "head_lora[at] = sum;\n    }"),
    Mutant("wkv7: LoRAs of one head for all", "five", "act, head * kHeadSize + value, index % kLoraLanes", "act, value, index % kLoraLanes"),
    # matvec.h
    Mutant("matvec: wrong lane", "decode", "simd_shuffle_xor(value, ushort(step))", "simd_shuffle_xor(value, ushort(1))"),
    _race("matvec: every lane writes", "decode", "if (lane % kLanes == 0 && first + r < part.rows", "if (first + r < part.rows"),
    Mutant("matvec: a row too few", "odd", "first + r < part.rows && tile", "first + r + 1 < part.rows && tile"),
    Mutant("matvec: a row of activations too few", "prefill", "tile + t < in_rows) {", "tile + t + 1 < in_rows) {"),
    Mutant("matvec: every lane one item late", "decode", "item = lane % kLanes; item < kItems", "item = lane % kLanes + 1; item < kItems"),
    # matmul.h
    Mutant("matmul: tile not transposed", "matmul", "kTileValues, ulong2(0, 0), true)", "kTileValues, ulong2(0, 0), false)"),
    _race("matmul: no barrier before reading", "matmul", f"    {TG}\n    for (uint k = 0;", "    for (uint k = 0;"),
    _race("matmul: no barrier before the next tile", "matmul", f"      }}\n    }}\n    {TG}\n  }}", "      }\n    }\n  }"),
    _race("matmul: no barrier before writing out", "matmul", f"kTileOutputs);\n    }}\n  }}\n  {TG}", "kTileOutputs);\n    }\n  }"),
    Mutant("matmul: wrong stride of results", "matmul", "value_tile + 8 * m * kTileOutputs", "value_tile + 8 * m * kTileOutputs / 2"),
    Mutant("matmul: a row too few", "matmul", "if (row < in_rows && output < part.rows)", "if (row + 1 < in_rows && output < part.rows)"),
    # decoders
    Mutant("Q4_K: wrong bits of scales", "type:Q4_K", "((a >> 2) & 0x3030)", "((a >> 4) & 0x3030)"),
    Mutant("Q4_K: minima from the scales' nibbles", "type:Q4_K", "((c >> 4) & 0x0f0f)", "(c & 0x0f0f)"),
    Mutant("Q4_K: nibbles swapped", "type:Q4_K", "{low_nibbles(codes), high_nibbles(codes), d.x", "{high_nibbles(codes), low_nibbles(codes), d.x"),
    Mutant("Q5_K: fifth bit at the wrong place", "type:Q5_K", "((bits & 0x02020202u) << 3)", "((bits & 0x02020202u) << 4)"),
    Mutant("Q6_K: high bits at the wrong place", "type:Q6_K", "(two_bits(bits.y) << 4)", "(two_bits(bits.y) << 3)"),
    Mutant("Q3_K: offset of scales", "type:Q3_K", "float(low | (high << 4)) - 32.0f", "float(low | (high << 4)) - 31.0f"),
    Mutant("Q2_K: minimum of the other half", "type:Q2_K", "float(scales >> 12)", "float((scales >> 4) & 15)"),
    Mutant("Q8_0: unsigned codes", "type:Q8_0", "high ^ 0x80808080u", "high"),
    Mutant("Q5_0: fifth bits in the wrong order", "type:Q5_0", "plane << 2, plane << 1)", "plane << 1, plane << 2)"),
    # choice.metal
    _race("argmax: no barrier in the loop", "choice", f"best[index] = best[index + step];\n    {TG}", "best[index] = best[index + step];"),
    Mutant("keys: negative logits in the wrong order", "choice", "? ~bits : bits | 0x80000000u", "? bits ^ 0x80000000u : bits | 0x80000000u"),
    Mutant("sort: the wrong way", "choice", "(low & size) == 0", "(low & size) != 0"),
    Mutant("bias: overwrites", "choice", "+ entry.id] += entry.value;", "+ entry.id] = entry.value;"),
    # wkv7.metal
    _race("wkv7: no barrier before the keys' sums", "decode", f"partial_kk[index] = s_kk;\n    {TG}", "partial_kk[index] = s_kk;"),
    _race("wkv7: no barrier before y's sums", "decode", f"partial_y[index] = y;\n    {TG}", "partial_y[index] = y;"),
    Mutant("wkv7: delta rule with the wrong sign", "decode", "- s_kk * head_kk_a[quad]", "+ s_kk * head_kk_a[quad]"),
    Mutant("wkv7: normalized once", "decode", "* inverse * inverse;", "* inverse;"),
    Mutant("wkv7: first layer's value everywhere", "decode", "if (kFirstLayer != 0) {", "if (kFirstLayer == 0) {"),
    Mutant("wkv7: two keys of the state swapped", "decode", "key[2 * kHeadSize] = s[j].z;", "key[2 * kHeadSize] = s[j].w;"),
    # state.h
    _race("state: written where it is read", "decode", "u64(info.out_side)", "u64(info.in_side)"),
]


def _host(file: str, name: str, case: str, old: str, new: str, check: bool = False) -> Mutant:
    return Mutant(name, case, old, new, check, file)


HOST = [
    _host("program.mm", "no barrier between dependent dispatches", "decode", "[encoder_ memoryBarrierWithScope:MTLBarrierScopeBuffers];", ";", check=True),
    _host("program.mm", "the encoder is not ended", "decode", "encoding.add(compiled_.dispatches[i]);\n  [encoder endEncoding];", "encoding.add(compiled_.dispatches[i]);"),
    _host("program.mm", "a result is read before the work is done", "decode", "const std::string error = model_->device->finish(commands);\n    if (first", "const std::string error;\n    if (first"),
    _host("program.mm", "the state does not flip", "decode", "for (const Sequence& sequence : sequences) state_out(sequence).flip();", ""),
    _host("program.mm", "the new state over the old one", "decode", "info.out_side = 1 - out.side();", "info.out_side = out.side();", check=True),
    _host("program.mm", "an offset is not set", "decode", "[encoder_ setBufferOffset:offset atIndex:index];", ";"),
    _host("program.mm", "half of the threads", "decode", "MTLSizeMake(dispatch.threads, 1, 1)", "MTLSizeMake(dispatch.threads / 2, 1, 1)"),
    _host("program.mm", "threadgroup memory is not set", "decode", "[encoder_ setThreadgroupMemoryLength:dispatch.threadgroup_bytes atIndex:0];", ";"),
    _host("program.mm", "every sequence starts at row 0", "batch", "sequence_infos(flight)[s].first_row = work.rows;", "sequence_infos(flight)[s].first_row = 0;"),
    _host("program.mm", "an old state is not forgotten", "states", "info.in_place = in == nullptr ? STATE_FRESH : from.place().index;", "info.in_place = from.place().index;"),
    _host("program.mm", "biases of one id are not added up", "choice", "entries[kept - 1].value += entries[i].value;", ";"),
    _host("state.mm", "a copy of the wrong state", "states", "sourceOffset:from.offset_bytes()", "sourceOffset:0"),
    _host("state.mm", "read before the GPU is done", "states", "  pool_->device().wait_idle();\n  float* host = out.data();", "  float* host = out.data();"),
    _host("state.mm", "a new state holds an old one", "states", "layout().bytes()) value:0];", "layout().bytes()) value:127];"),
    _host("state.mm", "rows for columns", "states", "host[host_at] = part[device_at]", "host[host_at] = part[host_at]"),
    _host("device.mm", "new memory is not zeroed", "odd", "std::memset(buffer.contents(), 0, size);", ";"),
    _host("device.mm", "errors of the GPU are ignored", "fault", "if ([commands.get() status] != MTLCommandBufferStatusError) return {};", "return {};"),
    _host("device.mm", "the queue leaks", "decode", "Owned<id<MTLCommandQueue>>([device_.get() newCommandQueue])", "Owned<id<MTLCommandQueue>>([[device_.get() newCommandQueue] retain])"),
    _host("device.mm", "one release too many", "decode", "CommandBuffer::retained([queue_.get() commandBufferWithUnretainedReferences])", "CommandBuffer([queue_.get() commandBufferWithUnretainedReferences])"),
    _host("stream.mm", "a slot is written while it is read", "streaming", "while (![event_.get() waitUntilSignaledValue", "while (false && ![event_.get() waitUntilSignaledValue"),
    _host("stream.mm", "a slot is filled once", "streaming", "if (slot.unit != unit) {", "if (slot.unit == kNoUnit) {"),
    _host("stream.mm", "pages are unwrapped too early", "streaming", "  if (slot.user) {", "  if (slot.unit != kNoUnit) windows_[weights_.passing(slot.unit).windows.at(0)] = {};\n  if (slot.user) {"),
    _host("weights.mm", "packed rows are all at the slot's start", "streaming", ".offset = packed.offset,", ".offset = 0,"),
    _host("weights.mm", "pieces of the head begin at row 0", "streaming", "packed.push_back({piece.tensor, piece.first_row,", "packed.push_back({piece.tensor, 0,"),
    _host("compile_linear.mm", "pieces of the head end up in one place", "streaming", ".out = first + (", ".out = 0 * first + ("),
    _host("pipelines.mm", "a constant of another type", "decode", "type:MTLDataTypeUInt atIndex:i", "type:MTLDataTypeInt atIndex:i"),
    _host("pipelines.mm", "constants one index off", "decode", "type:MTLDataTypeUInt atIndex:i", "type:MTLDataTypeUInt atIndex:i + 1"),
]
