/* The int8 encoder as one C function: the arithmetic of graph.py's integer layers, without the cost of a graph.
 *
 * Texts lie one behind the other, so nothing is padded. A product quantises each group of GROUP activations of a token
 * by the group's own largest one, multiplies in integers and adds up in float32. Everything that happens to a token
 * depends on its text alone: a vector is the same, bit for bit, whatever else is in the batch.
 *
 * One source for all processors: vectors of 64 bytes in the language of GCC and Clang, which the compiler cuts to what
 * the machine has. Only the step that a language cannot say, four products of bytes at once, is said per machine.
 *
 * Reentrant: no global state, and the caller lends the memory.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define GROUP 64  /* activations that share a scale */
#define PANEL 32  /* outputs that are computed together: their weights lie together */
#define LANES 16

typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint8_t Bytes __attribute__((vector_size(16), aligned(1), may_alias));

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

/* ---- what differs between machines: ROWS tokens at a time fill its registers; a · w, four bytes to a lane ---- */

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#define ROWS 6
static inline Ints dot(Ints sum, Ints a, Ints w) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)w);
}
static inline Floats largest(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
static inline Floats smallest(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
static inline float top(Floats v) { return _mm512_reduce_max_ps((__m512)v); }
#else
#if defined(__AVXVNNI__)
#include <immintrin.h>
#define ROWS 2
static inline Ints dot(Ints sum, Ints a, Ints w) {
    union { Ints whole; __m256i half[2]; } s = {sum}, x = {a}, y = {w};
    for (int i = 0; i < 2; i++) s.half[i] = _mm256_dpbusd_avx_epi32(s.half[i], x.half[i], y.half[i]);
    return s.whole;
}
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#define ROWS 2
#define SIGNED 1 /* both sides of this machine's step are signed */
static inline Ints dot(Ints sum, Ints a, Ints w) {
    union { Ints whole; int32x4_t part[4]; int8x16_t bytes[4]; } s = {sum}, x = {a}, y = {w};
    for (int i = 0; i < 4; i++) s.part[i] = vdotq_s32(s.part[i], x.bytes[i], y.bytes[i]);
    return s.whole;
}
#else
#error "no instruction that multiplies bytes four at a time: the ONNX graph is the better choice here"
#endif
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
static inline void rotate(Floats v[4]) {
    const Floats s1 = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
    const Floats s2 = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
    const Floats s4 = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
    const Floats s8 = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
    for (int i = 0; i < 4; i++) {
        v[i] = v[i] * s1 + PERMUTED(v[i], 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
        v[i] = v[i] * s2 + PERMUTED(v[i], 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
        v[i] = v[i] * s4 + PERMUTED(v[i], 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
        v[i] = v[i] * s8 + PERMUTED(v[i], 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    }
    const Floats a = v[0] + v[1], b = v[0] - v[1], c = v[2] + v[3], d = v[2] - v[3];
    v[0] = a + c, v[1] = b + d, v[2] = a - c, v[3] = b - d;
}

enum { PLAIN, ROTATED, GELU_ROTATED };

/* (tokens, size) floats → bytes around 128, and a scale for each group. */
static inline __attribute__((always_inline)) void quantise(
    const int how, const float *x, int tokens, int size, uint8_t *bytes, float *scale) {
    for (size_t g = 0; g < (size_t)tokens * size; g += GROUP, x += GROUP, bytes += GROUP) {
        Floats v[4], most = all(1e-20f);
        for (int i = 0; i < 4; i++) v[i] = how == GELU_ROTATED ? gelu(load(x + LANES * i)) : load(x + LANES * i);
        if (how != PLAIN) rotate(v);
        for (int i = 0; i < 4; i++) most = largest(most, magnitude(v[i]));
        const float m = top(most);
        *scale++ = m * (how == PLAIN ? 1.f / 127 : 1.f / 127 / 8); /* rotation has made everything 8 times as long */
        for (int i = 0; i < 4; i++) {
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
    Floats total[ROWS][2];
    for (int t = 0; t < rows; t++)
        for (int c = 0; c < 2; c++) total[t][c] = load(p->bias + panel * PANEL + LANES * c);
    for (int g = 0; g < groups; g++, weight_scale += PANEL, shift += PANEL) {
        Ints part[ROWS][2];
        for (int t = 0; t < rows; t++)
            for (int c = 0; c < 2; c++) {
#ifdef SIGNED
                part[t][c] = (Ints){0};
#else
                part[t][c] = *(const Ints *)(shift + LANES * c);
#endif
            }
        for (int k = 0; k < GROUP; k += 4, w += 4 * PANEL) {
            Ints left = *(const Ints *)w, right = *(const Ints *)(w + 4 * LANES);
            for (int t = 0; t < rows; t++) {
                int32_t four;
                memcpy(&four, bytes + (size_t)t * p->in + g * GROUP + k, 4);
#ifdef SIGNED
                four ^= 0x80808080;
#endif
                Ints a = (Ints){0} + four;
                part[t][0] = dot(part[t][0], a, left);
                part[t][1] = dot(part[t][1], a, right);
            }
        }
        Floats s0 = load(weight_scale), s1 = load(weight_scale + LANES);
        for (int t = 0; t < rows; t++) {
            Floats s = all(scale[t * groups + g]);
            total[t][0] += __builtin_convertvector(part[t][0], Floats) * (s0 * s);
            total[t][1] += __builtin_convertvector(part[t][1], Floats) * (s1 * s);
        }
    }
    for (int t = 0; t < rows; t++)
        for (int c = 0; c < 2; c++) store(out + (size_t)t * p->out + panel * PANEL + LANES * c, total[t][c]);
}

/* Panel by panel, so that a panel's weights stay in the nearest cache while all tokens pass. */
static void multiply(const Product *p, int tokens, const uint8_t *bytes, const float *scale, float *out) {
    for (int panel = 0; panel < p->out / PANEL; panel++)
        for (int t = 0, rows; t < tokens; t += rows) {
            const uint8_t *b = bytes + (size_t)t * p->in;
            const float *s = scale + (size_t)t * (p->in / GROUP);
            float *o = out + (size_t)t * p->out;
            int left = tokens - t, blocks = (left + ROWS - 1) / ROWS;
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

/* Attention inside one text. LANES queries stand side by side, so that softmax never looks across a vector.
 * `queries` and `weights` are memory for size_of_head and tokens vectors. */
static void attend(const float *qkv, int tokens, int hidden, int heads, float *out, float *queries, float *weights) {
    const int size = hidden / heads, stride = 3 * hidden;
    const float root = 1.f / sqrtf((float)size);
    for (int h = 0; h < heads; h++) {
        const float *q = qkv + h * size, *k = q + hidden, *v = k + hidden;
        for (int first = 0; first < tokens; first += LANES) {
            int here = tokens - first < LANES ? tokens - first : LANES;
            for (int j = 0; j < size; j++) store(queries + LANES * j, all(0));
            for (int t = 0; t < here; t++)
                for (int j = 0; j < size; j++) queries[LANES * j + t] = q[(size_t)(first + t) * stride + j] * root;
            Floats most = all(-1e30f), total = all(0);
            for (int s = 0; s < tokens; s++) {
                const float *key = k + (size_t)s * stride;
                Floats a = all(0), b = all(0);
                for (int j = 0; j < size; j += 2) {
                    a += load(queries + LANES * j) * key[j];
                    b += load(queries + LANES * (j + 1)) * key[j + 1];
                }
                a += b;
                store(weights + (size_t)LANES * s, a);
                most = largest(most, a);
            }
            for (int s = 0; s < tokens; s++) {
                Floats e = exponential(load(weights + (size_t)LANES * s) - most);
                store(weights + (size_t)LANES * s, e);
                total += e;
            }
            Floats inverse = 1.f / total;
            for (int t = 0; t < here; t++)
                for (int j = 0; j < size; j += LANES) {
                    Floats a = all(0);
                    for (int s = 0; s < tokens; s++)
                        a += load(v + (size_t)s * stride + j) * weights[(size_t)LANES * s + t];
                    store(out + (size_t)(first + t) * hidden + h * size + j, a * inverse[t]);
                }
        }
    }
}

static int widest(const Model *m) { return m->intermediate > 3 * m->hidden ? m->intermediate : 3 * m->hidden; }

/* Bytes of memory that `encode` needs for `tokens` in all and `longest` in one text. */
size_t memory_needed(const Model *m, int tokens, int longest) {
    size_t wide = widest(m), floats = (size_t)tokens * (2 * m->hidden + wide + wide / GROUP);
    return 4 * (floats + LANES * (size_t)(longest + m->hidden / m->heads)) + tokens * wide;
}

/* Texts → unit vectors.
 *
 * ids: the tokens of all texts; text i has those from first[i] to first[i + 1]; none is empty or too long.
 * memory: aligned to 64 bytes. vectors: (texts, hidden).
 */
void encode(const Model *m, const int32_t *ids, const int32_t *first, int texts, void *memory, float *vectors) {
    const int tokens = first[texts], size = m->hidden, wide = widest(m);
    float *x = memory, *y = x + (size_t)tokens * size, *inner = y + (size_t)tokens * size;
    float *queries = inner + (size_t)tokens * wide, *weights = queries + LANES * (size / m->heads);
    int longest = 0;
    for (int i = 0; i < texts; i++) longest = first[i + 1] - first[i] > longest ? first[i + 1] - first[i] : longest;
    float *scale = weights + (size_t)LANES * longest;
    uint8_t *bytes = (uint8_t *)(scale + (size_t)tokens * (wide / GROUP));

    for (int i = 0; i < texts; i++)
        for (int t = first[i]; t < first[i + 1]; t++) {
            const int8_t *word = m->words + (size_t)ids[t] * size;
            const float *position = m->positions + (size_t)(t - first[i]) * size;
            for (int j = 0; j < size; j++) x[(size_t)t * size + j] = word[j] * m->word_scale[ids[t]] + position[j];
        }
    add_and_norm(x, NULL, tokens, size, m->norm, m->epsilon);

    for (const Layer *l = m->layer; l < m->layer + m->layers; l++) {
        quantise(ROTATED, x, tokens, size, bytes, scale);
        multiply(&l->qkv, tokens, bytes, scale, inner);
        for (int i = 0; i < texts; i++)
            attend(inner + (size_t)first[i] * 3 * size, first[i + 1] - first[i], size, m->heads,
                   y + (size_t)first[i] * size, queries, weights);
        quantise(PLAIN, y, tokens, size, bytes, scale);
        multiply(&l->joined, tokens, bytes, scale, y);
        add_and_norm(x, y, tokens, size, l->after_attention, m->epsilon);

        quantise(ROTATED, x, tokens, size, bytes, scale);
        multiply(&l->inner, tokens, bytes, scale, inner);
        quantise(GELU_ROTATED, inner, tokens, m->intermediate, bytes, scale);
        multiply(&l->outer, tokens, bytes, scale, y);
        add_and_norm(x, y, tokens, size, l->after_feed_forward, m->epsilon);
    }

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
