// One main for every Catch2 executable. Tests that link SystemC need sc_main as well; libsystemc never calls it here.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>

extern "C" int sc_main(int argc, char **argv);
int sc_main(int, char **) { return 0; }
