// What the programs know of the model: written by `tiffin unpack --plain` from the artifact's manifest.
#pragma once

namespace model {
constexpr const char* file = $file;
constexpr const char* input = $input;    // uint8, 1 x height x width x 3, RGB
constexpr const char* output = $output;  // float32 logits, one a line of labels.txt
constexpr int height = $height;
constexpr int width = $width;
constexpr double temperature = $temperature;
#define MODEL_OPENVINO_TYPE ov::element::$ov_type  // float layers are computed in this
}  // namespace model
