// R at the logits of the class that is explained, which is chosen here: no host has to wait for the logits.
#include "include/softmax.cuh"

// The first largest of a row, `but` aside.
__device__ inline int largest_of(const float* row, int classes, int but) {
    int found = but == 0 ? 1 : 0;
    for (int k = found + 1; k < classes; ++k)
        if (k != but && beats(row[k], row[found])) found = k;
    return found;
}

// A thread has a stamp. `given` is its class; where it is negative the class is `candidate` if its probability is at
// least `threshold`, else the most probable other one; and where `candidate` is negative that of the largest logit.
// What it is given: 0 its logit, 1 its probability, 2 the number 1, 3 its logit less the runner-up's.
extern "C" __global__ void targets_relevance(const float* __restrict__ z, float* __restrict__ r, int what, int given,
                                             int candidate, float threshold, int n, int classes) {
    EACH(i, n) {
        const float* logits = z + (size_t)i * classes;
        float* row = r + (size_t)i * classes;
        softmax_row(logits, row, classes);
        int chosen = given;
        if (given < 0 && candidate < 0) chosen = largest_of(logits, classes, -1);
        if (given < 0 && candidate >= 0)
            chosen = row[candidate] >= threshold ? candidate : largest_of(row, classes, candidate);
        const int second = what == 3 ? largest_of(logits, classes, chosen) : -1;
        for (int k = 0; k < classes; ++k) {
            const float sign = k == chosen ? 1.0f : k == second ? -1.0f : 0.0f;
            row[k] = what == 2 ? sign : __fmul_rn(sign, what == 1 ? row[k] : logits[k]);
        }
    }
}
