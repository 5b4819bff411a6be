// Catch2, whichever of 2.13 and 3.x the system has.

#ifndef BATCHNORM_TESTS_CATCH_HPP
#define BATCHNORM_TESTS_CATCH_HPP

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#else
#include <catch2/catch.hpp>
#endif

// Its macros leave out an argument, which Clang from 19 on says that only C++20 allows.
#if defined(__clang__)
#if __has_warning("-Wvariadic-macro-arguments-omitted")
#pragma clang diagnostic ignored "-Wvariadic-macro-arguments-omitted"
#elif __clang_major__ >= 19
#pragma clang diagnostic ignored "-Wc++20-extensions"
#endif
#endif

#endif  // BATCHNORM_TESTS_CATCH_HPP
