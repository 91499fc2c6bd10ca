// wkv7 for training: forward and backward over whole sequences, float32, head size 64.
//
// Per batch b and head h, with S[i][j] (i = value, j = key), S = 0 before the first token:
//     sa_t[i]   = sum_j S_{t-1}[i][j] a_t[j]
//     S_t[i][j] = S_{t-1}[i][j] w_t[j] + sa_t[i] b_t[j] + v_t[i] k_t[j]
//     y_t[i]    = sum_j S_t[i][j] r_t[j]
// where a = -kk and b = kk * iclr in RWKV-7. All tensors are [B, T, H, 64], contiguous; T % kChunk == 0.
//
// One block of 64 threads per (h, b). Forward: thread i keeps row i of S in registers. It stores sa and, every kChunk
// tokens, S ("checkpoints", [B, H, T / kChunk, 64, 64]). Backward walks the tokens from the last to the first and undoes
// the update, S_{t-1} = (S_t - v k^T - sa b^T) / w, starting afresh from each checkpoint: w >= exp(-exp(-0.5)) = 0.545, so
// that rounding grows by at most 0.545^-kChunk between two of them.
// With G = dL/dS_t (including the part from y_t), the gradients are
//     dr[j] = sum_i S_t[i][j] dy[i]     dv[i] = sum_j G[i][j] k[j]     dk[j] = sum_i G[i][j] v[i]
//     dsa[i] = sum_j G[i][j] b[j]       db[j] = sum_i G[i][j] sa[i]
//     dw[j] = sum_i G[i][j] S_{t-1}[i][j]     da[j] = sum_i dsa[i] S_{t-1}[i][j]
//     dL/dS_{t-1} = G diag(w) + dsa a^T
// Sums over j want a row of G in one thread, sums over i a column: G is kept twice, once each way.

constexpr int kHead = 64;
constexpr int kChunk = 16;

__global__ void __launch_bounds__(kHead)
wkv7_forward(int T, int H, const float* __restrict__ r, const float* __restrict__ w, const float* __restrict__ k,
             const float* __restrict__ v, const float* __restrict__ a, const float* __restrict__ b,
             float* __restrict__ y, float* __restrict__ sa_out, float* __restrict__ checkpoints) {
    __shared__ float r_[kHead], w_[kHead], k_[kHead], a_[kHead], b_[kHead];
    const int h = blockIdx.x, batch = blockIdx.y, i = threadIdx.x;
    float S[kHead];
#pragma unroll
    for (int j = 0; j < kHead; ++j) S[j] = 0.0f;

    for (int t = 0; t < T; ++t) {
        const long at = ((long)(batch * (long)T + t) * H + h) * kHead + i;
        __syncthreads();
        r_[i] = r[at]; w_[i] = w[at]; k_[i] = k[at]; a_[i] = a[at]; b_[i] = b[at];
        const float vi = v[at];
        __syncthreads();
        float sa = 0.0f;
#pragma unroll
        for (int j = 0; j < kHead; ++j) sa += S[j] * a_[j];
        float yi = 0.0f;
#pragma unroll
        for (int j = 0; j < kHead; ++j) {
            S[j] = S[j] * w_[j] + sa * b_[j] + vi * k_[j];
            yi += S[j] * r_[j];
        }
        y[at] = yi;
        sa_out[at] = sa;
        if ((t + 1) % kChunk == 0) {
            float* out = checkpoints + ((long)(batch * (long)H + h) * (T / kChunk) + t / kChunk) * kHead * kHead + i * kHead;
#pragma unroll
            for (int j = 0; j < kHead; ++j) out[j] = S[j];
        }
    }
}

__global__ void __launch_bounds__(kHead)
wkv7_backward(int T, int H, const float* __restrict__ r, const float* __restrict__ w, const float* __restrict__ k,
              const float* __restrict__ v, const float* __restrict__ a, const float* __restrict__ b,
              const float* __restrict__ sa, const float* __restrict__ checkpoints, const float* __restrict__ dy,
              float* __restrict__ dr, float* __restrict__ dw, float* __restrict__ dk, float* __restrict__ dv,
              float* __restrict__ da, float* __restrict__ db) {
    __shared__ float r_[kHead], w_[kHead], k_[kHead], a_[kHead], b_[kHead], v_[kHead], sa_[kHead], dy_[kHead], dsa_[kHead];
    const int h = blockIdx.x, batch = blockIdx.y, n = threadIdx.x;      // n is a row index i and a column index j in turn
    float S[kHead], G_column[kHead], G_row[kHead];
#pragma unroll
    for (int m = 0; m < kHead; ++m) S[m] = G_column[m] = G_row[m] = 0.0f;

    for (int t = T - 1; t >= 0; --t) {
        const long at = ((long)(batch * (long)T + t) * H + h) * kHead + n;
        __syncthreads();
        const float rn = r_[n] = r[at];
        const float wn = w_[n] = w[at];
        const float kn = k_[n] = k[at];
        const float an = a_[n] = a[at];
        const float bn = b_[n] = b[at];
        const float dyn = dy_[n] = dy[at];
        v_[n] = v[at];
        sa_[n] = sa[at];
        if ((t + 1) % kChunk == 0) {
            const float* in = checkpoints + ((long)(batch * (long)H + h) * (T / kChunk) + t / kChunk) * kHead * kHead + n;
#pragma unroll
            for (int m = 0; m < kHead; ++m) S[m] = in[m * kHead];
        }
        __syncthreads();

        float dvn = 0.0f, dsan = 0.0f;
#pragma unroll
        for (int j = 0; j < kHead; ++j) {
            G_row[j] += dyn * r_[j];
            dvn += G_row[j] * k_[j];
            dsan += G_row[j] * b_[j];
        }
        dsa_[n] = dsan;
#pragma unroll
        for (int j = 0; j < kHead; ++j) G_row[j] = G_row[j] * w_[j] + dsan * a_[j];
        __syncthreads();

        float drn = 0.0f, dwn = 0.0f, dkn = 0.0f, dan = 0.0f, dbn = 0.0f;
        const float inverse_w = 1.0f / wn;
#pragma unroll
        for (int i = 0; i < kHead; ++i) {
            const float g = G_column[i] + dy_[i] * rn;
            const float before = (S[i] - v_[i] * kn - sa_[i] * bn) * inverse_w;
            drn += S[i] * dy_[i];
            dkn += g * v_[i];
            dbn += g * sa_[i];
            dwn += g * before;
            dan += dsa_[i] * before;
            G_column[i] = g * wn + dsa_[i] * an;
            S[i] = before;
        }
        dr[at] = drn; dw[at] = dwn; dk[at] = dkn; dv[at] = dvn; da[at] = dan; db[at] = dbn;
    }
}

#ifdef __CUDACC__
// Launchers for ctypes: device pointers and a stream; they return the cudaError_t of the launch.
extern "C" int wkv7_forward_launch(int B, int T, int H, const float* r, const float* w, const float* k, const float* v,
                                   const float* a, const float* b, float* y, float* sa, float* checkpoints, void* stream) {
    wkv7_forward<<<dim3(H, B), dim3(kHead), 0, (cudaStream_t)stream>>>(T, H, r, w, k, v, a, b, y, sa, checkpoints);
    return (int)cudaGetLastError();
}

extern "C" int wkv7_backward_launch(int B, int T, int H, const float* r, const float* w, const float* k, const float* v,
                                    const float* a, const float* b, const float* sa, const float* checkpoints, const float* dy,
                                    float* dr, float* dw, float* dk, float* dv, float* da, float* db, void* stream) {
    wkv7_backward<<<dim3(H, B), dim3(kHead), 0, (cudaStream_t)stream>>>(T, H, r, w, k, v, a, b, sa, checkpoints, dy,
                                                                       dr, dw, dk, dv, da, db);
    return (int)cudaGetLastError();
}
#endif
