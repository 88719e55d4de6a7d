// A prepared photo in, the five likeliest labels out. C++17, no library but the standard one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "model.hpp"

// The command line: CLASSIFY FOLDER PHOTO [--logits].
struct Arguments {
    std::filesystem::path folder, photo;
    bool logits = false;

    Arguments(int count, char** words) {
        if (count < 3 || count > 4 || (count == 4 && std::strcmp(words[3], "--logits") != 0)) {
            throw std::runtime_error("usage: " + std::string(words[0]) + " FOLDER PHOTO.ppm [--logits]");
        }
        folder = words[1];
        photo = words[2];
        logits = count == 4;
    }
};

inline std::string read_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path.string() + ": cannot be read");
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// One number of a PPM header; comments run from # to the end of the line.
inline int header_number(std::istream& header) {
    while ((header >> std::ws).peek() == '#') header.ignore(1 << 20, '\n');
    int number = -1;
    if (!(header >> number)) throw std::runtime_error("no PPM header");
    return number;
}

// A binary PPM (P6) of the model's size, or its bare bytes: height * width * 3, RGB, rows from the top.
inline std::vector<std::uint8_t> read_photo(const std::filesystem::path& path) {
    const std::string content = read_file(path);
    const std::size_t wanted = std::size_t(model::height) * model::width * 3;
    std::size_t start = 0;
    if (content.size() != wanted && content.rfind("P6", 0) == 0) {
        std::istringstream header(content.substr(2));
        const int width = header_number(header), height = header_number(header), highest = header_number(header);
        if (width != model::width || height != model::height || highest != 255) {
            throw std::runtime_error(path.string() + ": not " + std::to_string(model::width) + " x " +
                                     std::to_string(model::height) + ", 8 bits");
        }
        start = 2 + std::size_t(header.tellg()) + 1;  // one white space ends the header
    }
    if (content.size() != start + wanted) {
        throw std::runtime_error(path.string() + ": " + std::to_string(content.size()) + " bytes, expected " +
                                 std::to_string(start + wanted));
    }
    return {content.begin() + std::ptrdiff_t(start), content.end()};
}

inline std::vector<std::string> read_lines(const std::filesystem::path& path) {
    std::istringstream text(read_file(path));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
}

// Softmax of logits / temperature, best first.
inline void print_top(const float* logits, std::size_t count, const std::vector<std::string>& labels) {
    if (count != labels.size()) throw std::runtime_error("the model and labels.txt have different numbers of labels");
    const double highest = *std::max_element(logits, logits + count);
    std::vector<double> powers(count);
    for (std::size_t i = 0; i < count; ++i) powers[i] = std::exp((logits[i] - highest) / model::temperature);
    const double sum = std::accumulate(powers.begin(), powers.end(), 0.0);
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return powers[a] > powers[b]; });
    for (std::size_t i = 0; i < std::min<std::size_t>(5, count); ++i) {
        std::printf("%6.1f%%  %s\n", 100 * powers[order[i]] / sum, labels[order[i]].c_str());
    }
}

inline void print_answer(const float* logits, std::size_t count, const Arguments& arguments) {
    if (!arguments.logits) return print_top(logits, count, read_lines(arguments.folder / "labels.txt"));
    for (std::size_t i = 0; i < count; ++i) std::printf("%.9g\n", double(logits[i]));
}
