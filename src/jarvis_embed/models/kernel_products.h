/* Products of activations and weights, in int8 and in fp32.
 *
 * int8: each group of GROUP activations of a token is quantised by the group's own largest one, multiplied in integers
 * and added up in float32. fp32: numbers are multiplied as they are. In both, a panel of weights is read once for all
 * tokens, from the first to the last byte as they lie in the file, and everything that happens to a token depends on
 * that token alone.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel_team.h"
#include "kernel_vectors.h"

#define GROUP 64 /* activations that share a scale */
#define PANEL 32 /* outputs that are computed together: their weights lie together */
#define AHEAD 12288 /* bytes of weights that are fetched ahead: no message leaves a whole model in the nearer caches */

/* Tokens at a time, as many as fill the registers with sums: there are 32, on an x86 of 32 bytes 16. In int8 each sum is
 * two, one of integers and one of floats; in fp32 only FP32_COLUMNS vectors of a panel are computed at a time. */
#define INT8_ROWS (WIDTH == 64 ? 6 : 2)
#define FP32_ROWS (WIDTH == 32 ? 6 : 12)
#define FP32_COLUMNS 2

#define COLUMNS (PANEL / LANES)
#define PARTS (GROUP / LANES)

/* A product: (tokens, in) @ (in, out) + bias. `in` is a multiple of GROUP, `out` of PANEL. */
typedef struct {
    int32_t in, out;
    const void *weight;   /* int8_t [out / PANEL][in / 4][PANEL][4], or float [out / PANEL][in][PANEL] */
    const float *scale;   /* [out / PANEL][in / GROUP][PANEL]; NULL in fp32, and so is shift */
    const int32_t *shift; /* the same places: -128 times the sum of the group's weights */
    const float *bias;    /* [out] */
} Product;

static inline int is_int8(const Product *p) { return p->scale != NULL; }

#ifdef __clang__ /* it keeps sums in registers only where it unrolls, and does not unroll so many by itself */
#define UNROLLED _Pragma("clang loop unroll(full)")
#define PERMUTED(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define UNROLLED
#define PERMUTED(v, ...) __builtin_shuffle(v, (Ints){__VA_ARGS__})
#endif

/* Multiply 64 numbers by a Hadamard matrix: six times, sums and differences of all pairs at distance 1, 2, 4 … 32. */
static inline void rotate(Floats v[PARTS]) {
    for (int i = 0; i < PARTS; i++) {
#if LANES == 16
        v[i] = v[i] * (Floats){1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1} +
               PERMUTED(v[i], 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
        v[i] = v[i] * (Floats){1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1} +
               PERMUTED(v[i], 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
        v[i] = v[i] * (Floats){1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1} +
               PERMUTED(v[i], 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
        v[i] = v[i] * (Floats){1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1} +
               PERMUTED(v[i], 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
#elif LANES == 8
        v[i] = v[i] * (Floats){1, -1, 1, -1, 1, -1, 1, -1} + PERMUTED(v[i], 1, 0, 3, 2, 5, 4, 7, 6);
        v[i] = v[i] * (Floats){1, 1, -1, -1, 1, 1, -1, -1} + PERMUTED(v[i], 2, 3, 0, 1, 6, 7, 4, 5);
        v[i] = v[i] * (Floats){1, 1, 1, 1, -1, -1, -1, -1} + PERMUTED(v[i], 4, 5, 6, 7, 0, 1, 2, 3);
#else
        v[i] = v[i] * (Floats){1, -1, 1, -1} + PERMUTED(v[i], 1, 0, 3, 2);
        v[i] = v[i] * (Floats){1, 1, -1, -1} + PERMUTED(v[i], 2, 3, 0, 1);
#endif
    }
    for (int distance = 1; distance < PARTS; distance *= 2)
        for (int i = 0; i < PARTS; i++)
            if (!(i & distance)) {
                const Floats a = v[i], b = v[i + distance];
                v[i] = a + b;
                v[i + distance] = a - b;
            }
}

/* What happens to activations before they are multiplied; nothing is rotated in fp32. */
typedef enum { PLAIN, ROTATED, GELU_ROTATED } How;

/* A token's activations → bytes around 128, and a scale for each group. */
static inline __attribute__((always_inline)) void quantise(
    const How how, const float *x, int size, uint8_t *bytes, float *scale) {
    for (int g = 0; g < size; g += GROUP, x += GROUP, bytes += GROUP) {
        Floats v[PARTS], most = all(1e-20f);
        for (int i = 0; i < PARTS; i++) v[i] = how == GELU_ROTATED ? gelu(load(x + LANES * i)) : load(x + LANES * i);
        if (how != PLAIN) rotate(v);
        for (int i = 0; i < PARTS; i++) most = largest(most, magnitude(v[i]));
        const float m = top(most);
        *scale++ = m * (how == PLAIN ? 1.f / 127 : 1.f / 127 / 8); /* rotation has made everything 8 times as long */
        for (int i = 0; i < PARTS; i++) {
            const Ints n = __builtin_convertvector(rounded(v[i] * (127.f / m)), Ints) + 128;
            *(Bytes *)(bytes + LANES * i) = __builtin_convertvector(n, Bytes);
        }
    }
}

/* One panel of outputs for `rows` tokens in int8; `rows` is a constant where this is inlined: sums stay in registers. */
static inline __attribute__((always_inline)) void int8_panel(
    const int rows, const Product *p, int panel, const uint8_t *bytes, const float *scale, float *out) {
    const int groups = p->in / GROUP;
    const int8_t *w = (const int8_t *)p->weight + (size_t)panel * p->in * PANEL;
    const float *weight_scale = p->scale + (size_t)panel * groups * PANEL;
    const int32_t *shift = p->shift + (size_t)panel * groups * PANEL;
    Floats total[INT8_ROWS][COLUMNS];
    for (int t = 0; t < rows; t++)
        for (int c = 0; c < COLUMNS; c++) total[t][c] = load(p->bias + panel * PANEL + LANES * c);
    for (int g = 0; g < groups; g++, weight_scale += PANEL, shift += PANEL) {
        Ints part[INT8_ROWS][COLUMNS];
        for (int t = 0; t < rows; t++)
            for (int c = 0; c < COLUMNS; c++) part[t][c] = WIDTH > 16 ? *(const Ints *)(shift + LANES * c) : (Ints){0};
        for (int k = 0; k < GROUP; k += 4, w += 4 * PANEL) {
            Ints four_of[COLUMNS];
            for (int c = 0; c < COLUMNS; c++) four_of[c] = *(const Ints *)(w + WIDTH * c);
            for (int c = 0; c < 4 * PANEL; c += 64) __builtin_prefetch(w + AHEAD + c, 0, 2);
            for (int t = 0; t < rows; t++) {
                int32_t four;
                memcpy(&four, bytes + (size_t)t * p->in + g * GROUP + k, 4);
                const Ints a = (Ints){0} + four;
                for (int c = 0; c < COLUMNS; c++) part[t][c] = dot(part[t][c], a, four_of[c]);
            }
        }
        Floats weight_scales[COLUMNS];
        for (int c = 0; c < COLUMNS; c++) weight_scales[c] = load(weight_scale + LANES * c);
        for (int t = 0; t < rows; t++) {
            const Floats s = all(scale[t * groups + g]);
            for (int c = 0; c < COLUMNS; c++)
                total[t][c] += __builtin_convertvector(part[t][c], Floats) * (weight_scales[c] * s);
        }
    }
    for (int t = 0; t < rows; t++)
        for (int c = 0; c < COLUMNS; c++) store(out + (size_t)t * p->out + panel * PANEL + LANES * c, total[t][c]);
}

/* The same in fp32. */
static inline __attribute__((always_inline)) void fp32_panel(
    const int rows, const Product *p, int panel, const float *x, float *out) {
    for (int part = panel * PANEL; part < (panel + 1) * PANEL; part += FP32_COLUMNS * LANES) {
        const float *w = (const float *)p->weight + (size_t)panel * p->in * PANEL + part % PANEL;
        Floats total[FP32_ROWS][FP32_COLUMNS];
        UNROLLED for (int t = 0; t < rows; t++)
            for (int c = 0; c < FP32_COLUMNS; c++) total[t][c] = load(p->bias + part + LANES * c);
        for (int k = 0; k < p->in; k++, w += PANEL) {
            Floats weights[FP32_COLUMNS];
            for (int c = 0; c < FP32_COLUMNS; c++) weights[c] = load(w + LANES * c);
            for (int c = 0; c < FP32_COLUMNS * WIDTH; c += 64) __builtin_prefetch((const char *)w + AHEAD + c, 0, 2);
            UNROLLED for (int t = 0; t < rows; t++) {
                const Floats a = all(x[(size_t)t * p->in + k]);
                for (int c = 0; c < FP32_COLUMNS; c++) total[t][c] += a * weights[c];
            }
        }
        UNROLLED for (int t = 0; t < rows; t++)
            for (int c = 0; c < FP32_COLUMNS; c++) store(out + (size_t)t * p->out + part + LANES * c, total[t][c]);
    }
}

typedef struct {
    const Product *product;
    How how;
    int tokens;
    float *x;
    uint8_t *bytes;
    float *scale;
    float *out;
} Multiplying;

/* Make a token's activations ready: in int8 they become bytes; in fp32 there is GELU to do, in its place, or nothing. */
static void prepare_token(const void *work, int token) {
    const Multiplying m = *(const Multiplying *)work;
    const int size = m.product->in;
    float *x = m.x + (size_t)token * size, *scale = m.scale + (size_t)token * (size / GROUP);
    uint8_t *bytes = m.bytes + (size_t)token * size;
    if (!is_int8(m.product)) {
        for (int i = 0; i < size; i += LANES) store(x + i, gelu(load(x + i)));
        return;
    }
    switch (m.how) {
        case PLAIN: quantise(PLAIN, x, size, bytes, scale); break;
        case ROTATED: quantise(ROTATED, x, size, bytes, scale); break;
        case GELU_ROTATED: quantise(GELU_ROTATED, x, size, bytes, scale); break;
    }
}

/* A panel's weights stay in a near cache while all tokens pass. */
static void multiply_panel(const void *work, int panel) {
    const Multiplying m = *(const Multiplying *)work;
    const Product *p = m.product;
    const int most = is_int8(p) ? INT8_ROWS : FP32_ROWS;
    for (int t = 0, rows; t < m.tokens; t += rows) {
        const float *x = m.x + (size_t)t * p->in, *scale = m.scale + (size_t)t * (p->in / GROUP);
        const uint8_t *bytes = m.bytes + (size_t)t * p->in;
        float *out = m.out + (size_t)t * p->out;
        const int left = m.tokens - t, blocks = (left + most - 1) / most;
        rows = (left + blocks - 1) / blocks; /* 7 tokens are better 4 and 3 than 6 and 1 */
#define INT8(n) case n: int8_panel(n, p, panel, bytes, scale, out); break
#define FP32(n) case n: fp32_panel(n, p, panel, x, out); break
        if (is_int8(p)) switch (rows) {
            INT8(1); INT8(2);
#if WIDTH == 64
            INT8(3); INT8(4); INT8(5); INT8(6);
#endif
        }
        else switch (rows) {
            FP32(1); FP32(2); FP32(3); FP32(4); FP32(5); FP32(6);
#if WIDTH != 32
            FP32(7); FP32(8); FP32(9); FP32(10); FP32(11); FP32(12);
#endif
        }
    }
}

/* out ← x @ weights + bias, for `tokens`. bytes, scale: memory for x in int8. In fp32, GELU changes x itself. */
static void multiply(
    Team *team, const Product *p, How how, float *x, int tokens, uint8_t *bytes, float *scale, float *out) {
    const Multiplying work = {p, how, tokens, x, bytes, scale, out};
    if (is_int8(p) || how == GELU_ROTATED) share(how == GELU_ROTATED ? team : NULL, prepare_token, &work, tokens);
    share(team, multiply_panel, &work, p->out / PANEL);
}
