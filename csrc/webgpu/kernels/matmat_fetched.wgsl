// A unit of weights as it lies in memory, or where that is larger as float16: decoded when it is put into its slice, so that
// its loads stay under way until then.
alias Fetched = array<vec4<u32>, 4>;
