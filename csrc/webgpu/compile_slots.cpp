// The memory of a program: which forms each activation slot has, and all buffers.
#include <algorithm>
#include <set>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kMaxBiased = 1 << 16;  // biased tokens of one submit

}  // namespace

// Which forms of each slot are read, and whether its producer can write codes.
void Compiler::plan_slots() {
  uses_.resize(plan_.slots.size());
  const MatMat form = matmat(shape_.rows);
  const bool reads_halves = takes_halves(form), reads_values = form == MatMat::Float;
  const auto use = [&](SlotId id) -> SlotUse& { return uses_.at(static_cast<size_t>(id)); };
  for (const Op& op : plan_.ops) {
    if (const auto* mix = std::get_if<ShiftMixOp>(&op)) {
      use(mix->x).values = true;
    } else if (const auto* linear = std::get_if<LinearOp>(&op)) {
      for (const LinearPart& part : linear->parts) {
        (reads_halves ? use(part.in).halves : reads_codes(part.weight) && !reads_values ? use(part.in).codes : use(part.in).values) =
            true;
        if (part.accumulate) use(part.out).values = true;
      }
    } else if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) {
      for (SlotId id : {wkv7->r, wkv7->k, wkv7->v, wkv7->v_first}) use(id).values = true;
      for (SlotId id : {wkv7->w_hidden, wkv7->a_hidden, wkv7->v_hidden, wkv7->g_hidden}) {
        if (id != kNone) (reads_halves ? use(id).halves : use(id).values) = true;
      }
    } else if (const auto* head = std::get_if<HeadOp>(&op)) {
      use(head->x).values = true;
    }
  }
  for (const Op& op : plan_.ops) {
    if (const auto* embed = std::get_if<EmbedOp>(&op)) {
      use(embed->out).codes_by_producer = false;
    } else if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) {
      use(wkv7->out).codes_by_producer = plan_.head_size % 32 == 0;
    } else if (const auto* linear = std::get_if<LinearOp>(&op)) {
      // A quantizing dispatch writes codes only, for all of its parts.
      bool codes_only = true;
      for (const LinearPart& part : linear->parts)
        codes_only = codes_only && !part.accumulate && use(part.out).codes && !use(part.out).values;
      for (const LinearPart& part : linear->parts) use(part.out).codes_by_producer = codes_only;
    }
  }
  // Kernels that make whole rows, of compile_many.cpp; and reduce.wgsl, which needs the lengths of rows that such a kernel made.
  std::set<SlotId> mixed;  // as float16, by token shift
  for (const Op& op : plan_.ops) {
    if (one_token()) break;
    if (const auto* mix = std::get_if<ShiftMixOp>(&op)) {
      for (SlotId out : mix->out) {
        use(out).halves_by_producer = use(out).halves;
        if (use(out).halves) mixed.insert(out);
      }
    } else if (const auto* wkv7 = std::get_if<Wkv7Op>(&op); wkv7 != nullptr && !crowd()) {
      use(wkv7->out).halves_by_producer = use(wkv7->out).halves;
    }
  }
  for (const Op& op : plan_.ops) {
    const auto* linear = std::get_if<LinearOp>(&op);
    if (one_token() || linear == nullptr) continue;
    for (const LinearPart& part : linear->parts) {
      if (part.accumulate || !use(part.out).halves || mixed.count(part.in) == 0) continue;
      use(part.out).halves_by_producer = true;
      if (!is_bounded(part.activation)) use(part.in).length = true;
    }
  }
  const Op* before = nullptr;
  for (const Op& op : plan_.ops) {
    if (const auto* wkv7 = std::get_if<Wkv7Op>(&op); wkv7 != nullptr && bounds_out(*wkv7, before)) {
      SlotUse& out = use(wkv7->out);
      out.bounded = out.halves_by_producer = out.halves;
    }
    before = &op;
  }
  for (SlotUse& slot_use : uses_) {
    const bool written_otherwise =
        (slot_use.codes && slot_use.codes_by_producer) || (slot_use.halves && slot_use.halves_by_producer);
    if (!written_otherwise || (slot_use.codes && !slot_use.codes_by_producer) ||
        (slot_use.halves && !slot_use.halves_by_producer)) {
      slot_use.values = true;
    }
  }
}

void Compiler::lay_out() {
  Activations& act = compiled_.activations;
  const auto whole_tiles = [&](uint32_t n) {
    const uint32_t tile_rows = matmat(n) == MatMat::None ? tile(n) : tiling(n).tile.rows;
    return ceil_div(n, tile_rows) * tile_rows;
  };
  const uint32_t rows = whole_tiles(shape_.rows);
  for (size_t i = 0; i < plan_.slots.size(); ++i)
    act.add(plan_.slots[i].width, rows, uses_[i].values, uses_[i].codes, uses_[i].halves);
  const bool has_wkv7 =
      std::any_of(plan_.ops.begin(), plan_.ops.end(), [](const Op& op) { return std::holds_alternative<Wkv7Op>(op); });
  for (int z = 0; z < (one_token() ? 4 : 5) && has_wkv7; ++z) {
    const size_t id = act.add(plan_.n_embd, rows, true, false);
    if (z == 0) compiled_.lora_slots = id;
  }
  const bool bounded = std::any_of(uses_.begin(), uses_.end(), [](const SlotUse& use) { return use.bounded; });
  for (int i = 0; i < 4 && bounded; ++i) {
    const size_t id = act.add(reduce_workgroups(plan_.n_embd), rows, true, false);
    if (i == 0) compiled_.largest_slots = id;
  }
  if (readers_add_sums()) compiled_.free_slot = act.add(plan_.n_embd, rows, true, false);
  // Behind all else: kernels that read neither are the same texts, and so compiled once, whatever is read out of how many sequences.
  const uint32_t head_alloc = whole_tiles(head_rows());
  const MatMat head_form = matmat(head_rows());
  const bool wants_logits = shape_.readout != Readout::None && shape_.readout != Readout::Hidden;
  bool head_codes = false;
  bool has_head = false;
  for (const Op& op : plan_.ops) {
    if (const auto* head = std::get_if<HeadOp>(&op)) {
      head_codes = wants_logits && head_form == MatMat::None && reads_codes(head->weight);
      has_head = true;
    }
  }
  if (!has_head && shape_.readout != Readout::None) throw InputError("[webgpu] compile: the plan has no head to read from");
  const bool hidden_values = !head_codes || shape_.readout == Readout::Hidden;
  const bool head_halves = wants_logits && takes_halves(head_form);
  compiled_.hidden_slot = act.add(plan_.n_embd, head_alloc, hidden_values, head_codes, head_halves);
  compiled_.logits_slot = act.add(wants_logits ? plan_.n_vocab : 1, head_alloc, true, false);
}

void Compiler::allocate() {
  compiled_.activations.allocate(device_);
  compiled_.sums = device_.create_buffer("sums", std::max<uint64_t>(16, 4 * sums_values()),
                                         WGPUBufferUsage_Storage);

  constexpr auto kUsage = WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst | WGPUBufferUsage_CopySrc;
  compiled_.params = device_.create_buffer("params", 16 * (1 + uint64_t{shape_.sequences} + shape_.rows), kUsage);
  compiled_.tokens = device_.create_buffer("tokens", 4 * uint64_t{shape_.sequences}, kUsage);
  compiled_.dummy = device_.create_buffer("no weights", 16, kUsage);
  if (shape_.readout == Readout::Candidates || shape_.readout == Readout::Argmax || shape_.readout == Readout::Draw) {
    compiled_.bias =
        device_.create_buffer("bias", 16 * (1 + uint64_t{std::min(kMaxBiased, plan_.n_vocab * shape_.sequences)}), kUsage);
  }
}

// What is not activations is little, but for the logits to be read back and what choosing among them takes.
ProgramSize Compiler::size() {
  plan_slots();
  lay_out();
  const Activations& act = compiled_.activations;
  const uint64_t readback = uint64_t{head_rows()} * act[compiled_.logits_slot].padded * 4;
  const bool chooses = shape_.readout != Readout::None && shape_.readout != Readout::LastLogits && shape_.readout != Readout::AllLogits;
  const uint64_t choice = chooses ? uint64_t{plan_.n_vocab} * 40 * shape_.sequences : 0;  // biases, the lists of a top-k
  const uint64_t table_rows = uint64_t{shape_.rows} * plan_.n_embd * 4;                    // as floats, if the host gathers them
  return {act.bytes() + 4 * sums_values() + readback + choice + table_rows + (32 << 10), act.largest_buffer()};
}

}  // namespace rwkvnative::webgpu
