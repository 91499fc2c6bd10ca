// Logits of llama.cpp for benchmarks/logits_error.py: tokens (int32) from one file, logits (float32, a row a token) to another.
//
//     llama_logits MODEL.gguf TOKENS LOGITS N_TOKENS CHUNK
//
// TOKENS holds whole sequences of N_TOKENS; each starts from an empty state and is fed CHUNK tokens a call, on the CPU.
// Built against a llama.cpp that is built already (llama.h of ggml 0.25.3), BUILD being its build folder:
//
//     c++ -std=c++17 -O2 benchmarks/llama_logits.cpp -I SOURCE/include -I SOURCE/ggml/include -o llama_logits -L BUILD/src
//         -L BUILD/ggml/src -lllama -lggml -lggml-cpu -lggml-base -fopenmp -ldl
//
// or, where it was built as shared libraries: -L BUILD/bin -lllama -lggml -Wl,-rpath,BUILD/bin
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama.h"

namespace {

[[noreturn]] void fail(const char* what, const char* where) {
  std::fprintf(stderr, "llama_logits: %s: %s\n", what, where);
  std::exit(1);
}

std::vector<int32_t> read_tokens(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (!file) fail("cannot read", path);
  std::vector<int32_t> tokens;
  int32_t token;
  while (std::fread(&token, sizeof token, 1, file) == 1) tokens.push_back(token);
  std::fclose(file);
  return tokens;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) fail("usage", "llama_logits MODEL.gguf TOKENS LOGITS N_TOKENS CHUNK");
  const char* path = argv[1];
  const size_t n_tokens = std::strtoul(argv[4], nullptr, 10), chunk = std::strtoul(argv[5], nullptr, 10);
  std::vector<int32_t> tokens = read_tokens(argv[2]);
  if (!n_tokens || !chunk || tokens.size() % n_tokens) fail("expected whole sequences of N_TOKENS in", argv[2]);

  llama_log_set([](ggml_log_level level, const char* text, void*) {
    if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
  }, nullptr);
  llama_backend_init();
  llama_model_params model_params = llama_model_default_params();
  model_params.n_gpu_layers = 0;
  llama_model* model = llama_model_load_from_file(path, model_params);
  if (!model) fail("cannot load", path);
  llama_context_params context_params = llama_context_default_params();
  context_params.n_ctx = static_cast<uint32_t>(std::max<size_t>(n_tokens, 256));
  context_params.n_batch = context_params.n_ubatch = static_cast<uint32_t>(std::max<size_t>(chunk, 32));
  context_params.n_threads = context_params.n_threads_batch = 1;
  llama_context* context = llama_init_from_model(model, context_params);
  if (!context) fail("no context for", path);

  std::FILE* out = std::fopen(argv[3], "wb");
  if (!out) fail("cannot write", argv[3]);
  const auto n_vocab = static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));
  llama_batch batch = llama_batch_init(static_cast<int32_t>(chunk), 0, 1);
  for (size_t first = 0; first < tokens.size(); first += n_tokens) {
    llama_memory_clear(llama_get_memory(context), true);
    for (size_t at = 0; at < n_tokens; at += chunk) {
      batch.n_tokens = static_cast<int32_t>(std::min(chunk, n_tokens - at));
      for (int32_t i = 0; i < batch.n_tokens; ++i) {
        batch.token[i] = tokens[first + at + static_cast<size_t>(i)];
        batch.pos[i] = static_cast<llama_pos>(at) + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
      }
      if (llama_decode(context, batch)) fail("llama_decode failed on", path);
      for (int32_t i = 0; i < batch.n_tokens; ++i)
        if (std::fwrite(llama_get_logits_ith(context, i), sizeof(float), n_vocab, out) != n_vocab) fail("cannot write", argv[3]);
    }
  }
  if (std::fclose(out)) fail("cannot write", argv[3]);
  llama_batch_free(batch);
  llama_free(context);
  llama_model_free(model);
  llama_backend_free();
}
