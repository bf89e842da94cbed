/* One source, two forms: a loop that the compiler makes vectors of, for every processor and for
 * those with AVX2. Both give the same bytes, since they are the same C. (GCC's -O2 does not
 * vectorise these loops by itself.) */
#pragma once

#include <stdbool.h>

#define VECTORISED __attribute__((optimize("O3")))
#define VECTORISED_BODY static inline __attribute__((always_inline))
/* Nothing that a loop writes is read by another turn of it. */
#define VECTORISED_LOOP _Pragma("GCC ivdep")

/* From NAME_body(const TYPE *) makes NAME(bool portable, const TYPE *): the form for this
 * processor, or the one for all. */
#ifdef __x86_64__
#define VECTORISED_FORMS(name, type)                                                               \
    VECTORISED static void name##_portable(const type *a)                                          \
    {                                                                                              \
        name##_body(a);                                                                            \
    }                                                                                              \
    VECTORISED __attribute__((target("avx2"))) static void name##_avx2(const type *a)              \
    {                                                                                              \
        name##_body(a);                                                                            \
    }                                                                                              \
    static void name(bool portable, const type *a)                                                 \
    {                                                                                              \
        if (!portable && __builtin_cpu_supports("avx2"))                                           \
            name##_avx2(a);                                                                        \
        else                                                                                       \
            name##_portable(a);                                                                    \
    }
#else
#define VECTORISED_FORMS(name, type)                                                               \
    VECTORISED static void name(bool portable, const type *a)                                      \
    {                                                                                              \
        (void)portable;                                                                            \
        name##_body(a);                                                                            \
    }
#endif
