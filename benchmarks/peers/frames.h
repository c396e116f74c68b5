/* The frames of the framed cases, by hand: a 4-byte little-endian length, then that many bytes. */
#ifndef PLAIT_BENCHMARKS_PEERS_FRAMES_H
#define PLAIT_BENCHMARKS_PEERS_FRAMES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { frame_header_size = 4, largest_frame = 60 * 1024 }; /* a frame with its header fits a receive buffer */

static inline uint32_t read_frame_length(const unsigned char* header) {
    return (uint32_t)header[0] | (uint32_t)header[1] << 8 | (uint32_t)header[2] << 16 |
           (uint32_t)header[3] << 24;
}

static inline void write_frame_length(unsigned char* header, uint32_t length) {
    header[0] = (unsigned char)length;
    header[1] = (unsigned char)(length >> 8);
    header[2] = (unsigned char)(length >> 16);
    header[3] = (unsigned char)(length >> 24);
}

struct answered {
    size_t consumed; /* bytes of whole frames taken from the input */
    size_t produced; /* bytes of answers put into the output */
    int malformed;   /* a frame claims to be longer than largest_frame */
};

/* Decodes every whole frame of the input and encodes an answer with the same payload; the output is as large
   as the input. It copies although the bytes come out equal, as a server with answers of its own would have
   to. */
static inline struct answered answer_frames(const unsigned char* input, size_t size, unsigned char* output) {
    struct answered result = {0, 0, 0};
    while (size - result.consumed >= frame_header_size) {
        const unsigned char* frame = input + result.consumed;
        const uint32_t length = read_frame_length(frame);
        if (length > largest_frame) {
            result.malformed = 1;
            break;
        }
        if (size - result.consumed - frame_header_size < length) break;
        write_frame_length(output + result.produced, length);
        memcpy(output + result.produced + frame_header_size, frame + frame_header_size, length);
        result.consumed += frame_header_size + length;
        result.produced += frame_header_size + length;
    }
    return result;
}

#endif
