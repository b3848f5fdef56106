// Test data of ONNX models: folders with model and test_data_set_N/{input,output}_M.pb.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "driver/compiler/frontend/frontend.hpp"
#include "tb/driver/compiler/reference_eval.hpp"

namespace cx::compiler {

struct DataSet {
  std::vector<Tensor> inputs;  ///< by number; names are those in the files and may be empty
  std::vector<Tensor> outputs;
};

Tensor read_pb(const std::filesystem::path &path);
DataSet read_data_set(const std::filesystem::path &folder);

/// ONNX operator types of a model, sorted, each once.
std::vector<std::string> operators_of(const std::filesystem::path &model);
std::vector<std::string> output_names_of(const std::filesystem::path &model);

/// Empty if all elements agree within 1e-3 relative and 1e-7 absolute, otherwise what differs most.
std::string difference(const Values &actual, const Values &expected, double relative = 1e-3, double absolute = 1e-7);

/// Imports a model, runs the reference evaluator on a data set and compares all its outputs. All inputs are known at
/// run time only, but for those that the import asks for; their names go into `bound`. Returns what is wrong, or
/// nothing. Throws what import_onnx() throws, UnsupportedError if it asks for every input.
std::string run_case(const std::filesystem::path &model, const std::filesystem::path &data_set, double absolute = 1e-7,
                     std::vector<std::string> *bound = nullptr);

}  // namespace cx::compiler
