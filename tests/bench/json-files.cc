/* SPDX-License-Identifier: MIT */
/* The exchange by JSON files; see json-files.h. */
#include "tests/bench/json-files.h"

#include <cstdio>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>

static size_t write_file(const json_sample *samples, size_t n, size_t n_board, size_t n_policy,
                         const char *path) {
        nlohmann::json batch = nlohmann::json::array();

        for (size_t i = 0; i < n; i++) {
                const json_sample &s = samples[i];

                batch.push_back({ { "board", std::vector<double>(s.board, s.board + n_board) },
                                  { "policy", std::vector<double>(s.policy, s.policy + n_policy) },
                                  { "value", s.value } });
        }
        std::string text = batch.dump();
        std::ofstream file(path, std::ios::binary);
        file << text;
        file.close();
        return file ? text.size() : 0;
}

static double read_file(const char *path) {
        std::ifstream file(path, std::ios::binary);
        nlohmann::json batch = nlohmann::json::parse(file);
        double sum = 0;

        for (const auto &s : batch) {
                auto board = s.at("board").get<std::vector<float>>();
                auto policy = s.at("policy").get<std::vector<float>>();

                sum = std::accumulate(board.begin(), board.end(), sum);
                sum = std::accumulate(policy.begin(), policy.end(), sum);
                sum += s.at("value").get<float>();
        }
        return sum;
}

size_t json_files_round_trip(const json_sample *samples, size_t n, size_t n_board, size_t n_policy,
                             const char *path, double *ret_sum) noexcept {
        try {
                size_t n_bytes = write_file(samples, n, n_board, n_policy, path);

                *ret_sum = read_file(path);
                std::remove(path);
                return n_bytes;
        } catch (const std::exception &) {
                return 0;
        }
}
