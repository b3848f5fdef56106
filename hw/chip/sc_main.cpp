// libsystemc refers to sc_main. Programs here have a main of their own and never call it; weak, so that one that does
// can bring its own.
extern "C" __attribute__((weak)) int sc_main(int, char **) { return 0; }
