// A unit of weights as it lies in memory, so that its loads stay under way until it is decoded. All of a quantized type's fits into
// three; a thread has few registers for more while it multiplies.
alias Fetched = array<vec4<u32>, kFetched>;
