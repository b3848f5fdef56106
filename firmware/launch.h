/* LAUNCH: one program at a time on the engines. RECONFIG: what of them there is, between programs. */
#ifndef CX_FW_LAUNCH_H
#define CX_FW_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>

#include "firmware/queue.h"

/* Watchdog when the packet names none, in units of 1024 core cycles (about a second at 1 GHz). */
#define LAUNCH_DEFAULT_TIMEOUT_KCYCLES (1u << 20)

/* Checks the program and starts its engines; a bad program finishes the slot. False: the engines are busy. */
bool launch_start(struct queue *queue, struct slot *slot);

/* Changes the split of the array. False: a program runs, or another change. */
bool reconfig_start(struct queue *queue, struct slot *slot);

/* Of a shared array, `sca_tiles` slots are sparse tiles from now on, the others MAC tiles. The engines are idle. */
void reconfig_set_split(uint32_t sca_tiles);

/* Looks at the engines' states and at the watchdog. */
void launch_service(void);

/* Time of the watchdog, or of the end of a change; TIMER_NEVER when nothing runs. */
uint64_t launch_deadline(void);

/* Stops the launch if it belongs to this queue; its packet ends as ABORTED. */
void launch_abort(struct queue *queue);

void launch_reset_engines(void);

/* Resets the engines and their units; a launch ends as ABORTED, whatever queue it belongs to. */
void launch_reset(void);

#endif
