/* Serves a virtual card over vfio-user: a process that is the card. */
#ifndef CX_SERVE_H
#define CX_SERVE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Builds the card and listens at `socket_path`; one client at a time, for ever. `ready` is called once clients can
 * connect (NULL: nothing). Returns on an error only: CX_PORT_BAD_CONFIG with *text set (malloc; the caller frees it).
 */
int cx_serve(const char *yaml_path, const char *const *sets, size_t set_count, const char *socket_path,
             void (*ready)(void *context), void *context, char **text);

#ifdef __cplusplus
}
#endif
#endif
