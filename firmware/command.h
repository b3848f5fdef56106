/* Commands that the host gives through dev.HOST_CMD. */
#ifndef CX_FW_COMMAND_H
#define CX_FW_COMMAND_H

#include <stdbool.h>

/* Carries out the command, or goes on with one in progress. HOST_CMD reads 0 when it is done. */
void command_service(void);

/* A command waits for packets to end; command_service() is to be called after each change. */
bool command_in_progress(void);

#endif
