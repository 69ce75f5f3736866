/* Vectors of numbers as wide as the machine's own, and the functions of them that an encoder needs.
 *
 * One source for all processors: vectors in the language of GCC and Clang. Only the step that the language cannot say,
 * four products of bytes at once, is said for each machine.
 */
#include <stdint.h>

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#define WIDTH 64 /* bytes of a vector */
#elif defined(__AVXVNNI__)
#include <immintrin.h>
#define WIDTH 32
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#define WIDTH 16
#else
#error "no instruction that multiplies bytes four at a time; onnxruntime is the better choice here"
#endif

#define LANES (WIDTH / 4)

typedef float Floats __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

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
static inline Floats all(float x) { return x - (Floats){0}; } /* 0 + x would be computed: it is not always x */
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
