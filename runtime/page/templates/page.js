/* The page of a step: all of its parts. */

start((data) => {
  const programs = setUpPrograms(data);
  const watched = data.watched ? setUpWatched(data.watched) : null;
  const layers = setUpLayers(data, programs, watched);
  watched?.leadTo(layers);
  setUpMemory(data.memory);
  setUpKernels(data.kernels);
  programs.show(Math.min(1, programs.count - 1));
});
