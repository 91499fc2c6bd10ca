// Runs the kernels of python/tools/wkv7_train.cu on the CPU, one block at a time, one host thread per CUDA thread.
// A __shared__ array is a static, which is right because blocks run one after another.
#include <barrier>
#include <thread>
#include <vector>

struct Index { int x, y, z; };
static thread_local Index threadIdx, blockIdx;
static std::barrier<> block_barrier(64);

#define __global__
#define __shared__ static
#define __restrict__
#define __launch_bounds__(threads)
#define __syncthreads() block_barrier.arrive_and_wait()
#include "../python/tools/wkv7_train.cu"

template <class Kernel>
static void launch(int B, int H, Kernel kernel) {
    for (int b = 0; b < B; ++b) {
        for (int h = 0; h < H; ++h) {
            std::vector<std::thread> threads;
            for (int i = 0; i < kHead; ++i) {
                threads.emplace_back([=] {
                    threadIdx = {i, 0, 0};
                    blockIdx = {h, b, 0};
                    kernel();
                });
            }
            for (auto& thread : threads) thread.join();
        }
    }
}

extern "C" void emulated_forward(int B, int T, int H, float* r, float* w, float* k, float* v, float* a, float* b, float* y, float* sa,
                                 float* checkpoints) {
    launch(B, H, [=] { wkv7_forward(T, H, r, w, k, v, a, b, y, sa, checkpoints); });
}

extern "C" void emulated_backward(int B, int T, int H, float* r, float* w, float* k, float* v, float* a, float* b, float* sa,
                                  float* checkpoints, float* dy, float* dr, float* dw, float* dk, float* dv, float* da, float* db) {
    launch(B, H, [=] { wkv7_backward(T, H, r, w, k, v, a, b, sa, checkpoints, dy, dr, dw, dk, dv, da, db); });
}
