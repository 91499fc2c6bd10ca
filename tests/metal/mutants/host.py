"""Bugs of the host code."""

from __future__ import annotations

from mutants import Mutant


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
    _host("stream.mm", "nobody knows who reads a slot", "streaming", "slot.user = CommandBuffer::retained(commands.get());", ";"),
    _host("stream.mm", "one signal for all", "streaming", "slot.reached = ++last_value_;", "slot.reached = last_value_;"),
    _host("stream.mm", "the event leaks", "streaming", "event_([device.get() newSharedEvent])", "event_([[device.get() newSharedEvent] retain])"),
    _host("weights.mm", "rows from the tensor's first on", "streaming", "tensor.data + (first_row + begin) * tensor.row_bytes", "tensor.data + begin * tensor.row_bytes"),
    _host("weights.mm", "packed rows are all at the slot's start", "streaming", ".offset = packed.offset,", ".offset = 0,"),
    _host("weights.mm", "pieces of the head begin at row 0", "streaming", "packed.push_back({piece.tensor, piece.first_row,", "packed.push_back({piece.tensor, 0,"),
    _host("compile_linear.mm", "pieces of the head end up in one place", "streaming", ".out = first + (", ".out = 0 * first + ("),
    _host("pipelines.mm", "a constant of another type", "decode", "type:MTLDataTypeUInt atIndex:i", "type:MTLDataTypeInt atIndex:i"),
    _host("pipelines.mm", "constants one index off", "decode", "type:MTLDataTypeUInt atIndex:i", "type:MTLDataTypeUInt atIndex:i + 1"),
]
