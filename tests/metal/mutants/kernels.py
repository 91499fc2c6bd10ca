"""Bugs of kernels. (The text of a header is in several libraries: the bug is then in the first that the case compiles.)"""

from __future__ import annotations

from mutants import Mutant

TG = "threadgroup_barrier(mem_flags::mem_threadgroup);"
DEVICE = "threadgroup_barrier(mem_flags::mem_device);"


def _race(name: str, case: str, old: str, new: str, file: str = "") -> Mutant:
    return Mutant(name, case, old, new, check=True, file=file)


KERNELS = [
    # common.h
    _race("sum: shared memory is used again too early", "decode", f"  {TG}\n  if (thread_at.lane == 0) shared", "  if (thread_at.lane == 0) shared", "wkv7"),
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
    Mutant("sigmoid: wrong sign", "decode", "precise::exp(-x))", "precise::exp(x))", file="wkv7"),
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
    _race("mix_linear: no barrier before the matrix", "decode", f"mixed[quad] = float4(0.0f);\n  {TG}", "mixed[quad] = float4(0.0f);", "f16"),
    _race("mix_linear: a barrier for device memory", "decode", f"mixed[quad] = float4(0.0f);\n  {TG}", f"mixed[quad] = float4(0.0f);\n  {DEVICE}", "f16"),
    _race("mix_linear: every lane writes", "decode", "if (lane % kLanes == 0 && first + r < part.rows) finish_value", "if (first + r < part.rows) finish_value", "f16"),
    _race("mix_linear: every threadgroup keeps the state", "five", "arguments.keeps_state != 0 && group == 0;", "arguments.keeps_state != 0;"),
    Mutant("mix_linear: no passes but the first", "five", "pass < kPasses; ++pass, first += rows_of_pass", "pass < kPasses; ++pass"),
    Mutant("mix_linear: the state is not kept", "five", "if (keeps_state) ((device float4*)", "if (false) ((device float4*)"),
    _race("wkv7: LoRAs are read before they are there", "five", f"head_lora[at] = sum;\n    }}\n    {TG}", "head_lora[at] = sum;\n    }"),
    Mutant("wkv7: LoRAs of one head for all", "five", "act, head * kHeadSize + value, index % kLoraLanes", "act, value, index % kLoraLanes"),
    Mutant("half: the sums stay scaled", "half", "kHalf != 0 ? sum * part.unscale : sum;", "sum;"),
    Mutant("half: mixes are not scaled", "half", "half4(clamp(mix * scale,", "half4(clamp(mix,", file="mix"),
    Mutant("half: a quad for a value", "half", "((device const half4*)values)[at / 4]", "((device const half4*)values)[at]"),
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
    _race("state: written where it is read", "decode", "u64(info.out_side)", "u64(info.in_side)", "mix"),
]
