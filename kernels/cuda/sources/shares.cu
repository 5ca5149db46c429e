// Eqs. 2 and 3 (joint) and Eq. 4 (apart): c+ and c-, what an output hands down per unit of its products z_ij > 0 and
// z_ij < 0; 0/0 = 0. A thread has an output.
#include "include/common.cuh"

__device__ inline float ratio(float a, float b) { return b != 0.0f ? a / b : 0.0f; }

// c± = g± R / (g+ z+ + g- z- + eps sign z): g is `more` on the side of z's sign, 1 on the other.
extern "C" __global__ void shares_joint(const float* __restrict__ z_pos, const float* __restrict__ z_neg,
                                        const float* __restrict__ r, float more, float eps,
                                        float* __restrict__ c_pos, float* __restrict__ c_neg, int count) {
    EACH(i, count) {
        const bool above = z_pos[i] + z_neg[i] >= 0.0f;
        const float pos = above ? more : 1.0f, neg = above ? 1.0f : more;
        const float unit = ratio(r[i], pos * z_pos[i] + neg * z_neg[i] + (above ? eps : -eps));
        c_pos[i] = pos * unit;
        c_neg[i] = neg * unit;
    }
}

// c+ = to_pos R / (z+ + eps), c- = to_neg R / (z- - eps); `conserve`: the only side there is hands down all.
extern "C" __global__ void shares_apart(const float* __restrict__ z_pos, const float* __restrict__ z_neg,
                                        const float* __restrict__ r, float to_pos, float to_neg, float eps,
                                        int conserve, float* __restrict__ c_pos, float* __restrict__ c_neg,
                                        int count) {
    EACH(i, count) {
        const float pos = conserve && z_neg[i] == 0.0f ? 1.0f : to_pos;
        const float neg = conserve && z_pos[i] == 0.0f ? 1.0f : to_neg;
        c_pos[i] = ratio(pos * r[i], z_pos[i] + eps);
        c_neg[i] = ratio(neg * r[i], z_neg[i] - eps);
    }
}
