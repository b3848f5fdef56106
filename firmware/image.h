/* The firmware as a flat binary: the host copies it to offset 0 of BAR2. */
#ifndef CX_FIRMWARE_IMAGE_H
#define CX_FIRMWARE_IMAGE_H

#ifdef __cplusplus
extern "C" {
#endif

extern const unsigned char cx_firmware_image[];
extern const unsigned int cx_firmware_image_size; /* bytes */

/* Its functions as text, rising by address: "80000000 T _start" and so on, a line each. For traces. */
extern const char cx_firmware_symbols[];

#ifdef __cplusplus
}
#endif
#endif
