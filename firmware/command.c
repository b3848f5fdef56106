#include "firmware/command.h"

#include <stddef.h>

#include "firmware/boot.h"
#include "firmware/fault.h"
#include "firmware/launch.h"
#include "firmware/mmio.h"
#include "firmware/queue.h"

/* A queue that QUEUE_DISABLE drains: the command goes on until it is empty. */
static struct queue *draining;

static void refuse(uint32_t command) {
  const struct fault fault = {
      .status = CX_STATUS_BAD_FIELD, .queue = FAULT_NO_QUEUE, .engine = FAULT_NO_ENGINE, .address = command};
  fault_report(&fault);
}

bool command_in_progress(void) { return draining != NULL; }

void command_service(void) {
  if (draining != NULL) {
    if (draining->draining) return;
    draining = NULL;
    wake_lines |= 1u << CX_IRQ_HOST;
    mmio_write(DEV(HOST_CMD), CX_DEV_HOST_CMD_OP_NONE);
    mmio_write(INTC(ENABLE), wake_lines);
    return;
  }
  const uint32_t command = mmio_read(DEV(HOST_CMD));
  const uint32_t op = (command & CX_DEV_HOST_CMD_OP_MASK) >> CX_DEV_HOST_CMD_OP_SHIFT;
  const uint32_t number = (command & CX_DEV_HOST_CMD_QUEUE_MASK) >> CX_DEV_HOST_CMD_QUEUE_SHIFT;
  if (op == CX_DEV_HOST_CMD_OP_NONE) return;
  if (number >= chip.queues) {
    refuse(command);
  } else {
    struct queue *queue = queue_get(number);
    switch (op) {
      case CX_DEV_HOST_CMD_OP_QUEUE_ENABLE:
        queue_enable(queue);
        break;
      case CX_DEV_HOST_CMD_OP_QUEUE_DISABLE:
        queue_disable(queue);
        if (queue->draining) {
          draining = queue;
          wake_lines &= ~(1u << CX_IRQ_HOST);
          mmio_write(INTC(ENABLE), wake_lines);
          return;
        }
        break;
      case CX_DEV_HOST_CMD_OP_ENGINE_RESET:
        launch_reset();
        break;
      case CX_DEV_HOST_CMD_OP_QUEUE_RESET:
        queue_reset(queue);
        break;
      default:
        refuse(command);
        break;
    }
  }
  mmio_write(DEV(HOST_CMD), CX_DEV_HOST_CMD_OP_NONE);
}
