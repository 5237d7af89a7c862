// Classes of parameters, by what they do in the model: optimizer groups choose by them and norms
// are logged by them. One function says which class a piece belongs to.
#pragma once

#include "core/param.h"

#include <string>
#include <vector>

namespace ft {

// All classes, in the order of the model: embedding, in_proj_z, in_proj_x, in_proj_B, in_proj_C,
// in_proj_dt, conv, dt_bias, A_log, D, out_proj (all of the Mamba-2 mixer), q, k, v, o, gate, up,
// down, norm (every norm's weight), bias (every bias but dt_bias), head.
const std::vector<std::string>& parameter_classes();

// The class of a piece, from its Hugging Face name and section.
std::string parameter_class(const Piece& piece);

}  // namespace ft
