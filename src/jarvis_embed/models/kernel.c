/* The int8 encoder as one C function: the arithmetic of graph.py's integer layers, without the cost of a graph.
 *
 * Texts lie one behind the other, so nothing is padded. A product quantises each group of GROUP activations of a token
 * by the group's own largest one, multiplies in integers and adds up in float32. Everything that happens to a token
 * depends on its text alone: a vector is the same, bit for bit, whatever else is in the batch.
 *
 * One source for all processors: vectors in the language of GCC and Clang, as wide as the machine's own. Only the step
 * that the language cannot say, four products of bytes at once, is said for each machine.
 *
 * Reentrant: no global state, and the caller lends the memory. Many messages are shared out by the caller, a call for
 * each thread; one message alone is shared out here, among a team (kernel_team.h).
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel_team.h"

#define GROUP 64 /* activations that share a scale */
#define PANEL 32 /* outputs that are computed together: their weights lie together */
#define AHEAD 12288 /* bytes of weights that are fetched ahead: no message leaves a whole model in the nearer caches */

/* WIDTH: bytes of a vector. ROWS: tokens at a time, as many as fill the registers. */
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#define WIDTH 64
#define ROWS 6
#elif defined(__AVXVNNI__)
#include <immintrin.h>
#define WIDTH 32
#define ROWS 2
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#define WIDTH 16
#define ROWS 2
#else
#error "no instruction that multiplies bytes four at a time; onnxruntime is the better choice here"
#endif

#define LANES (WIDTH / 4)
#define COLUMNS (PANEL / LANES)
#define PARTS (GROUP / LANES)

typedef float Floats __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

/* A product: (tokens, in) @ (in, out) + bias. `in` is a multiple of GROUP, `out` of PANEL. */
typedef struct {
    int32_t in, out;
    const int8_t *weight; /* [out / PANEL][in / 4][PANEL][4] */
    const float *scale;   /* [out / PANEL][in / GROUP][PANEL] */
    const int32_t *shift; /* the same places: -128 times the sum of the group's weights */
    const float *bias;    /* [out] */
} Product;

typedef struct {
    const float *gamma, *beta;
} Norm;

typedef struct {
    Product qkv, joined, inner, outer;
    Norm after_attention, after_feed_forward;
} Layer;

typedef struct {
    int32_t layers, hidden, heads, intermediate, first_token_only;
    float epsilon;
    const int8_t *words;     /* [vocabulary][hidden] */
    const float *word_scale; /* [vocabulary] */
    const float *positions;  /* [longest text][hidden] */
    Norm norm;
    const Layer *layer;
} Model;

/* sum + a · w, four bytes to a lane. */
static inline Ints dot(Ints sum, Ints a, Ints w) {
#if WIDTH == 64
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)w);
#elif WIDTH == 32
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)w);
#else /* both sides are signed on this machine: 128 is taken away here, and not by `shift` */
    return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)(a ^ (int32_t)0x80808080), (int8x16_t)w);
#endif
}

#if WIDTH == 64 /* these three would be slow in the language alone */
static inline Floats largest(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
static inline Floats smallest(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
static inline float top(Floats v) { return _mm512_reduce_max_ps((__m512)v); }
#else
static inline Floats chosen(Ints mask, Floats a, Floats b) { return (Floats)(((Ints)a & mask) | ((Ints)b & ~mask)); }
static inline Floats largest(Floats a, Floats b) { return chosen(a > b, a, b); }
static inline Floats smallest(Floats a, Floats b) { return chosen(a < b, a, b); }
static inline float top(Floats v) {
    float t = v[0];
    for (int i = 1; i < LANES; i++) t = v[i] > t ? v[i] : t;
    return t;
}
#endif
static inline Floats load(const float *from) { return *(const Floats *)from; }
static inline void store(float *to, Floats v) { *(Floats *)to = v; }
static inline Floats all(float x) { return (Floats){0} + x; }
static inline Floats magnitude(Floats v) { return (Floats)((Ints)v & 0x7fffffff); }
static inline Floats rounded(Floats v) { return v + 12582912.f - 12582912.f; } /* 1.5 · 2^23: no room for fractions */
static inline int at_most(int a, int b) { return a < b ? a : b; }
static inline float sum(Floats v) {
    float t = 0;
    for (int i = 0; i < LANES; i++) t += v[i];
    return t;
}

/* e^x for x ≤ 0 (Cephes): 2^n by the exponent's bits, the rest by a polynomial. */
static inline Floats exponential(Floats x) {
    x = largest(x, all(-87.f));
    Floats n = rounded(x * 1.44269504f), r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.f) * (Floats)((__builtin_convertvector(n, Ints) + 127) << 23);
}

/* x · Φ(x), Φ by erf as a quotient of polynomials (the one of Eigen and XLA). */
static inline Floats gelu(Floats x) {
    Floats z = largest(smallest(x * 0.70710678f, all(4.f)), all(-4.f)), s = z * z;
    Floats a = s * -2.72614225801306e-10f + 2.77068142495902e-08f;
    a = a * s - 2.10102402082508e-06f;
    a = a * s - 5.69250639462346e-05f;
    a = a * s - 7.34990630326855e-04f;
    a = a * s - 2.95459980854025e-03f;
    a = a * s - 1.60960333262415e-02f;
    Floats b = s * -1.45660718464996e-05f - 2.13374055278905e-04f;
    b = b * s - 1.68282697438203e-03f;
    b = b * s - 7.37332916720468e-03f;
    b = b * s - 1.42647390514189e-02f;
    return 0.5f * x * (1.f + z * a / b);
}

#ifdef __clang__
#define PERMUTED(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
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

enum { PLAIN, ROTATED, GELU_ROTATED };

/* (tokens, size) floats → bytes around 128, and a scale for each group. */
static inline __attribute__((always_inline)) void quantise(
    const int how, const float *x, int tokens, int size, uint8_t *bytes, float *scale) {
    for (size_t g = 0; g < (size_t)tokens * size; g += GROUP, x += GROUP, bytes += GROUP) {
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

/* One panel of outputs for `rows` tokens; `rows` is a constant where this is inlined, so all sums stay in registers. */
static inline __attribute__((always_inline)) void panel_of(
    const int rows, const Product *p, int panel, const uint8_t *bytes, const float *scale, float *out) {
    const int groups = p->in / GROUP;
    const int8_t *w = p->weight + (size_t)panel * p->in * PANEL;
    const float *weight_scale = p->scale + (size_t)panel * groups * PANEL;
    const int32_t *shift = p->shift + (size_t)panel * groups * PANEL;
    Floats total[ROWS][COLUMNS];
    for (int t = 0; t < rows; t++)
        for (int c = 0; c < COLUMNS; c++) total[t][c] = load(p->bias + panel * PANEL + LANES * c);
    for (int g = 0; g < groups; g++, weight_scale += PANEL, shift += PANEL) {
        Ints part[ROWS][COLUMNS];
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

typedef struct {
    const Product *product;
    int tokens;
    const uint8_t *bytes;
    const float *scale;
    float *out;
} Multiplying;

/* A panel's weights stay in the nearest cache while all tokens pass. */
static void multiply_panel(const void *work, int panel) {
    const Multiplying m = *(const Multiplying *)work;
    const Product *p = m.product;
    for (int t = 0, rows; t < m.tokens; t += rows) {
        const uint8_t *b = m.bytes + (size_t)t * p->in;
        const float *s = m.scale + (size_t)t * (p->in / GROUP);
        float *o = m.out + (size_t)t * p->out;
        const int left = m.tokens - t, blocks = (left + ROWS - 1) / ROWS;
        rows = (left + blocks - 1) / blocks; /* 7 tokens are better 4 and 3 than 6 and 1 */
        switch (rows) {
            case 1: panel_of(1, p, panel, b, s, o); break;
            case 2: panel_of(2, p, panel, b, s, o); break;
#if ROWS > 2
            case 3: panel_of(3, p, panel, b, s, o); break;
            case 4: panel_of(4, p, panel, b, s, o); break;
            case 5: panel_of(5, p, panel, b, s, o); break;
            default: panel_of(ROWS, p, panel, b, s, o); break;
#endif
        }
    }
}

static void multiply(Team *team, const Product *p, int tokens, const uint8_t *bytes, const float *scale, float *out) {
    const Multiplying work = {p, tokens, bytes, scale, out};
    share(team, multiply_panel, &work, p->out / PANEL);
}

/* x ← LayerNorm(x + more), for each of the tokens. */
static void add_and_norm(float *x, const float *more, int tokens, int size, Norm norm, float epsilon) {
    for (int t = 0; t < tokens; t++, x += size, more += more ? size : 0) {
        Floats total = all(0), squares = all(0);
        for (int i = 0; i < size; i += LANES) {
            Floats v = load(x + i);
            if (more) v += load(more + i);
            store(x + i, v);
            total += v;
        }
        float mean = sum(total) / size;
        for (int i = 0; i < size; i += LANES) {
            Floats v = load(x + i) - mean;
            squares += v * v;
        }
        float inverse = 1.f / sqrtf(sum(squares) / size + epsilon);
        for (int i = 0; i < size; i += LANES)
            store(x + i, (load(x + i) - mean) * inverse * load(norm.gamma + i) + load(norm.beta + i));
    }
}

typedef struct {
    const float *qkv;
    int tokens, hidden, heads;
    float *out, *memory;
} Attending;

/* Memory for attention over `tokens`, in floats: for each head its queries, and a vector of weights for each token. */
static size_t attention_memory(const Model *m, int tokens) {
    return (size_t)LANES * (m->hidden + (size_t)m->heads * tokens);
}

/* One head of attention inside one text. LANES queries stand side by side, so that softmax never looks across a vector;
 * keys, and then queries, are taken four at a time, so that no sum waits for the one before. Where fewer are left, the
 * last one stands in for those that are missing. */
static void attend_head(const void *work, int head) {
    const Attending w = *(const Attending *)work;
    const int tokens = w.tokens, size = w.hidden / w.heads, stride = 3 * w.hidden;
    const float root = 1.f / sqrtf((float)size);
    const float *q = w.qkv + head * size, *k = q + w.hidden, *v = k + w.hidden;
    float *queries = w.memory + (size_t)head * LANES * (size + tokens), *weights = queries + LANES * size;
    for (int first = 0; first < tokens; first += LANES) {
        const int here = at_most(LANES, tokens - first);
        memset(queries, 0, sizeof(Floats) * size);
        for (int t = 0; t < here; t++)
            for (int j = 0; j < size; j++) queries[LANES * j + t] = q[(size_t)(first + t) * stride + j] * root;
        Floats most = all(-1e30f), total = all(0);
        for (int s = 0; s < tokens; s += 4) {
            const float *key[4];
            Floats a[4] = {{0}}, b[4] = {{0}};
            for (int i = 0; i < 4; i++) key[i] = k + (size_t)at_most(s + i, tokens - 1) * stride;
            for (int j = 0; j < size; j += 2)
                for (int i = 0; i < 4; i++) {
                    a[i] += load(queries + LANES * j) * key[i][j];
                    b[i] += load(queries + LANES * (j + 1)) * key[i][j + 1];
                }
            for (int i = 0; i < at_most(4, tokens - s); i++) {
                store(weights + (size_t)LANES * (s + i), a[i] + b[i]);
                most = largest(most, a[i] + b[i]);
            }
        }
        for (int s = 0; s < tokens; s++) {
            const Floats e = exponential(load(weights + (size_t)LANES * s) - most);
            store(weights + (size_t)LANES * s, e);
            total += e;
        }
        const Floats inverse = 1.f / total;
        for (int t = 0; t < here; t += 4)
            for (int j = 0; j < size; j += LANES) {
                Floats mixed[4] = {{0}};
                for (int s = 0; s < tokens; s++) {
                    const Floats value = load(v + (size_t)s * stride + j);
                    for (int i = 0; i < 4; i++) mixed[i] += value * weights[(size_t)LANES * s + t + i];
                }
                for (int i = 0; i < at_most(4, here - t); i++)
                    store(w.out + (size_t)(first + t + i) * w.hidden + head * size + j, mixed[i] * inverse[t + i]);
            }
    }
}

typedef struct {
    const float *x;
    int size;
    uint8_t *bytes;
    float *scale;
} Activating;

static void activate_token(const void *work, int token) {
    const Activating w = *(const Activating *)work;
    const size_t start = (size_t)token * w.size;
    quantise(GELU_ROTATED, w.x + start, 1, w.size, w.bytes + start, w.scale + (size_t)token * (w.size / GROUP));
}

static int widest(const Model *m) { return m->intermediate > 3 * m->hidden ? m->intermediate : 3 * m->hidden; }

/* Bytes of memory that `encode` needs for `tokens` in all and `longest` in one text. */
size_t memory_needed(const Model *m, int tokens, int longest) {
    size_t wide = widest(m), floats = (size_t)tokens * (2 * m->hidden + wide + wide / GROUP);
    return 4 * (floats + attention_memory(m, longest)) + tokens * wide;
}

/* Texts → unit vectors.
 *
 * team: may be NULL. ids: the tokens of all texts; text i has those from first[i] to first[i + 1]; none is empty or too
 * long. memory: aligned to 64 bytes. vectors: (texts, hidden).
 */
void encode(
    Team *team, const Model *m, const int32_t *ids, const int32_t *first, int texts, void *memory, float *vectors) {
    const int tokens = first[texts], size = m->hidden, wide = widest(m);
    float *x = memory, *y = x + (size_t)tokens * size, *inner = y + (size_t)tokens * size;
    float *scale = inner + (size_t)tokens * wide, *attention = scale + (size_t)tokens * (wide / GROUP);
    int longest = 0;
    for (int i = 0; i < texts; i++) longest = first[i + 1] - first[i] > longest ? first[i + 1] - first[i] : longest;
    uint8_t *bytes = (uint8_t *)(attention + attention_memory(m, longest));
    team = called(team);

    for (int i = 0; i < texts; i++)
        for (int t = first[i]; t < first[i + 1]; t++) {
            const int8_t *word = m->words + (size_t)ids[t] * size;
            const float *position = m->positions + (size_t)(t - first[i]) * size;
            for (int j = 0; j < size; j++) x[(size_t)t * size + j] = word[j] * m->word_scale[ids[t]] + position[j];
        }
    add_and_norm(x, NULL, tokens, size, m->norm, m->epsilon);

    for (const Layer *l = m->layer; l < m->layer + m->layers; l++) {
        quantise(ROTATED, x, tokens, size, bytes, scale);
        multiply(team, &l->qkv, tokens, bytes, scale, inner);
        for (int i = 0; i < texts; i++) {
            const Attending work = {inner + (size_t)first[i] * 3 * size, first[i + 1] - first[i], size, m->heads,
                                    y + (size_t)first[i] * size, attention};
            share(team, attend_head, &work, m->heads);
        }
        quantise(PLAIN, y, tokens, size, bytes, scale);
        multiply(team, &l->joined, tokens, bytes, scale, y);
        add_and_norm(x, y, tokens, size, l->after_attention, m->epsilon);

        quantise(ROTATED, x, tokens, size, bytes, scale);
        multiply(team, &l->inner, tokens, bytes, scale, inner);
        const Activating work = {inner, m->intermediate, bytes, scale};
        share(team, activate_token, &work, tokens);
        multiply(team, &l->outer, tokens, bytes, scale, y);
        add_and_norm(x, y, tokens, size, l->after_feed_forward, m->epsilon);
    }

    dismissed(team);

    for (int i = 0; i < texts; i++) {
        float *vector = vectors + (size_t)i * size;
        const int end = m->first_token_only ? first[i] + 1 : first[i + 1];
        Floats squares = all(0);
        for (int j = 0; j < size; j += LANES) {
            Floats total = all(0);
            for (int t = first[i]; t < end; t++) total += load(x + (size_t)t * size + j);
            store(vector + j, total);
            squares += total * total;
        }
        float length = sqrtf(sum(squares));
        for (int j = 0; j < size; j += LANES) store(vector + j, load(vector + j) * (length > 0 ? 1.f / length : 0.f));
    }
}
