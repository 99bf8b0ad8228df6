// Graphs of the stand-in: a launch runs the nodes in an order that their dependencies allow, each
// time another one, so that one that is missing shows.
#include <algorithm>
#include <cstring>

struct KernelNodeParams {  // CUDA_KERNEL_NODE_PARAMS_v2
  Function* function;
  unsigned grid[3], block[3], shared;
  void** parameters;
  void** extra;
  void* kernel;
  Context* context;
};

struct MemsetNodeParams {  // CUDA_MEMSET_NODE_PARAMS_v1
  Address target;
  std::size_t pitch;
  unsigned value, element_size;
  std::size_t width, height;
};

struct CopyEnd {
  std::size_t x, y, z, lod;
  unsigned memory_type;
  void* host;
  Address device;
  void *array, *reserved;
  std::size_t pitch, height;
};

struct CopyParams {  // CUDA_MEMCPY3D_v2
  CopyEnd source, target;
  std::size_t width, height, depth;
};

struct Node {
  std::function<Status(Context*)> run;
  std::vector<Node*> after;
  Function* function = nullptr;
};

struct Graph {
  Context* context;  // of CUDA's only the nodes have one, here all of the same
  std::vector<std::unique_ptr<Node>> nodes;
};

struct ExecutableGraph {
  Context* context;
  Graph* graph;
  std::vector<Node*> order;  // as they were added; each is behind those that it waits for
  std::map<Node*, Node> nodes;
};

namespace {

std::set<Graph*> graphs;

bool known(Context* context, Graph* graph) {
  return graphs.count(graph) && graph->context == context;
}

Status add_node(Context* context, Node** node, Graph* graph, Node* const* after, std::size_t count,
                Node made) {
  if (!known(context, graph)) return invalid_handle;
  for (std::size_t i = 0; i < count; ++i) {
    const auto own = [&](const std::unique_ptr<Node>& n) { return n.get() == after[i]; };
    if (std::none_of(graph->nodes.begin(), graph->nodes.end(), own)) return invalid_value;
    made.after.push_back(after[i]);
  }
  graph->nodes.push_back(std::make_unique<Node>(std::move(made)));
  return *node = graph->nodes.back().get(), success;
}

Status kernel_node(Context* context, const KernelNodeParams* params, Node* made) {
  if (params->extra || params->kernel || !params->function) return invalid_value;
  if (params->function->context != context) return invalid_handle;
  Launch launch{params->function, {}, {}, params->shared, {}};
  std::copy_n(params->grid, 3, launch.grid);
  std::copy_n(params->block, 3, launch.block);
  for (unsigned i = 0; i < params->function->parameters; ++i)
    launch.arguments.push_back(*static_cast<uint64_t*>(params->parameters[i]));
  if (Status status = check_launch(launch)) return status;
  made->function = params->function;
  made->run = [launch](Context* context) { return run_kernel(context, launch); };
  return success;
}

// One of the nodes that wait for nothing any more, by chance.
Status run_graph(Context* context, const std::map<Node*, Node>& nodes, std::vector<Node*> left) {
  while (!left.empty()) {
    std::vector<Node*> ready;
    for (Node* node : left) {
      const auto waits = [&](Node* other) {
        return std::find(left.begin(), left.end(), other) != left.end();
      };
      const std::vector<Node*>& after = nodes.at(node).after;
      if (std::none_of(after.begin(), after.end(), waits)) ready.push_back(node);
    }
    Node* next = ready[driver.random() % ready.size()];
    if (Status status = nodes.at(next).run(context)) return status;
    left.erase(std::find(left.begin(), left.end(), next));
  }
  return success;
}

}  // namespace

API cuGraphCreate(Graph** graph, unsigned flags) {
  USE_CONTEXT
  if (flags) return invalid_value;
  graphs.insert(*graph = new Graph{context, {}});
  return success;
}
API cuGraphDestroy(Graph* graph) {
  if (!graphs.erase(graph)) return invalid_handle;
  return delete graph, success;
}

API cuGraphAddKernelNode_v2(Node** node, Graph* graph, Node* const* after, std::size_t count,
                            const KernelNodeParams* params) {
  USE_CONTEXT
  Node made;
  if (Status status = kernel_node(context, params, &made)) return status;
  return add_node(context, node, graph, after, count, std::move(made));
}
API cuGraphAddMemsetNode(Node** node, Graph* graph, Node* const* after, std::size_t count,
                         const MemsetNodeParams* params, Context* where) {
  USE_CONTEXT
  const MemsetNodeParams p = *params;
  if (where != context || p.height != 1 || p.element_size != 1 || p.value > 255)
    return invalid_value;
  if (!inside(context, p.target, p.width)) return invalid_value;
  Node made;
  made.run = [p](Context*) {
    auto target = reinterpret_cast<void*>(p.target);
    return std::memset(target, static_cast<int>(p.value), p.width), success;
  };
  return add_node(context, node, graph, after, count, std::move(made));
}
API cuGraphAddMemcpyNode(Node** node, Graph* graph, Node* const* after, std::size_t count,
                         const CopyParams* params, Context* where) {
  USE_CONTEXT
  const CopyParams p = *params;
  if (where != context || p.height != 1 || p.depth != 1) return invalid_value;
  for (const CopyEnd* end : {&p.source, &p.target})
    if (end->memory_type != 2 || end->x || end->y || end->z || end->lod || end->reserved ||
        !inside(context, end->device, p.width))
      return invalid_value;
  Node made;
  made.run = [p](Context*) {
    return std::memmove(reinterpret_cast<void*>(p.target.device),
                        reinterpret_cast<void*>(p.source.device), p.width),
           success;
  };
  return add_node(context, node, graph, after, count, std::move(made));
}

API cuGraphInstantiateWithFlags(ExecutableGraph** executable, Graph* graph,
                                unsigned long long flags) {
  USE_CONTEXT
  if (!known(context, graph)) return invalid_handle;
  if (flags) return invalid_value;
  *executable = new ExecutableGraph{context, graph, {}, {}};
  for (const auto& node : graph->nodes) {
    (*executable)->order.push_back(node.get());
    (*executable)->nodes[node.get()] = *node;
  }
  return success;
}
API cuGraphExecKernelNodeSetParams_v2(ExecutableGraph* executable, Node* node,
                                      const KernelNodeParams* params) {
  USE_CONTEXT
  if (!known(context, executable->graph)) return invalid_handle;
  const auto found = executable->nodes.find(node);
  if (found == executable->nodes.end() || !found->second.function) return invalid_value;
  return kernel_node(context, params, &found->second);
}
API cuGraphLaunch(ExecutableGraph* executable, Stream* stream) {
  USE_CONTEXT
  if (executable->context != context) return invalid_handle;
  return enqueue(context, stream, [context, nodes = executable->nodes, order = executable->order] {
    return run_graph(context, nodes, order);
  });
}
API cuGraphExecDestroy(ExecutableGraph* executable) { return delete executable, success; }
