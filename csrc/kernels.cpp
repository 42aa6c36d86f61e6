// The kernels of one instruction set: CMake compiles this file once for each.
#include "attention.h"
#include "dense.h"
#include "events.h"
#include "head.h"
#include "residual.h"

#ifndef SPIKFORMER_SET
#error "name the instruction set: -DSPIKFORMER_SET=portable"
#endif
#define SPIKFORMER_TEXT(name) #name
#define SPIKFORMER_NAME(name) SPIKFORMER_TEXT(name)

namespace spikformer {
namespace SPIKFORMER_SET {

extern const Kernels kernels = {
    SPIKFORMER_NAME(SPIKFORMER_SET),
    {frames_in, list},
    {layer_items, gather},
    {frames_in, spread},
    {layer_items, multiply},
    {frames_out, pool},
    {frames_out, add},
    {attention_items, attention},
    {images, head},
};

}  // namespace SPIKFORMER_SET
}  // namespace spikformer
