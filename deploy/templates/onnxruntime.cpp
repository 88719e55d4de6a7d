// The five likeliest labels of one prepared photo, by ONNX Runtime's C++ API.
#include <onnxruntime_cxx_api.h>

#include <array>

#include "photo.hpp"

int main(int count, char** words) try {
    const Arguments arguments(count, words);
    std::vector<std::uint8_t> photo = read_photo(arguments.photo);

    Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "classify");
    const std::filesystem::path path = arguments.folder / model::file;
    Ort::Session session(environment, path.c_str(), Ort::SessionOptions());

    const std::array<std::int64_t, 4> shape{1, model::height, model::width, 3};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    Ort::Value input =
        Ort::Value::CreateTensor<std::uint8_t>(memory, photo.data(), photo.size(), shape.data(), shape.size());
    const auto outputs = session.Run(Ort::RunOptions(), &model::input, &input, 1, &model::output, 1);

    print_answer(outputs[0].GetTensorData<float>(), outputs[0].GetTensorTypeAndShapeInfo().GetElementCount(), arguments);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
