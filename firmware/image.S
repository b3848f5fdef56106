/* The firmware inside a host program. CX_FIRMWARE_BIN is the flat image's path. */
  .section .rodata
  .globl cx_firmware_image
  .globl cx_firmware_image_size
  .balign 16
cx_firmware_image:
  .incbin CX_FIRMWARE_BIN
cx_firmware_image_end:
  .balign 4
cx_firmware_image_size:
  .long cx_firmware_image_end - cx_firmware_image
  .globl cx_firmware_symbols
cx_firmware_symbols:
  .incbin CX_FIRMWARE_SYMBOLS
  .byte 0
  .section .note.GNU-stack, "", @progbits
