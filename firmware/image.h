/* The firmware as a flat binary: the host copies it to offset 0 of BAR2. */
#ifndef CX_FIRMWARE_IMAGE_H
#define CX_FIRMWARE_IMAGE_H

#ifdef __cplusplus
extern "C" {
#endif

extern const unsigned char cx_firmware_image[];
extern const unsigned int cx_firmware_image_size; /* bytes */

#ifdef __cplusplus
}
#endif
#endif
