cx_test(vmath_test LABELS vpu SOURCES vmath_test.cpp LINK cx_vmath)
# Errors over all inputs, which takes hours: cx_vmath_measure [FUNCTION...]
add_executable(cx_vmath_measure EXCLUDE_FROM_ALL vmath_measure.cpp)
target_link_libraries(cx_vmath_measure PRIVATE cx_vmath)
