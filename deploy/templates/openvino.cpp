// The five likeliest labels of one prepared photo, by OpenVINO's C++ API.
#include <openvino/openvino.hpp>

#include "photo.hpp"

int main(int count, char** words) try {
    const Arguments arguments(count, words);
    std::vector<std::uint8_t> photo = read_photo(arguments.photo);

    // Without a hint OpenVINO computes float32 models in bfloat16 where the CPU has it.
    ov::Core core;
    ov::CompiledModel compiled = core.compile_model((arguments.folder / model::file).string(), "CPU",
                                                    ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                                                    ov::hint::inference_precision(MODEL_OPENVINO_TYPE));
    ov::InferRequest request = compiled.create_infer_request();

    const ov::Shape shape{1, model::height, model::width, 3};
    request.set_tensor(model::input, ov::Tensor(ov::element::u8, shape, photo.data()));
    request.infer();

    const ov::Tensor output = request.get_tensor(model::output);
    print_answer(output.data<const float>(), output.get_size(), arguments);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
