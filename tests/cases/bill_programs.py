"""Two hand-written programs for the tests of the bill and the tools: a step in f32, one in 4 bits."""

CONV = "{stride=[1,1], padding=[1,1], dilation=[1,1], groups=1}"

# 3 images of 5 channels, 7x7; a convolution to 13 channels, batch norm, ReLU, the mean, a linear
# layer to 3 classes; frozen: everything is trained but the input.
CAPTURED = f"""
program tiny
input x : f32[3x5x7x7]
input y : i64[3]
input lr : f32[]
state conv.w : f32[13x5x3x3]
state gamma : f32[13]
state beta : f32[13]
state fc.w : f32[3x13]
state m.conv : f32[13x5x3x3]
state m.gamma : f32[13]
state m.fc : f32[3x13]
state step : i64[]

forward:
  # conv
  a = conv2d(x, conv.w) {CONV} : f32[3x13x7x7]
  # bn
  mean, var = batch_stats(a) : f32[13], f32[13]
  b = batch_norm(a, mean, var, gamma, beta) {{eps=1e-05}} : f32[3x13x7x7]
  # relu
  c = relu(b) : f32[3x13x7x7]
  # pool
  d = adaptive_avg_pool2d(c) : f32[3x13x1x1]
  # flat
  e = view(d) : f32[3x13]
  # fc
  f = linear(e, fc.w) : f32[3x3]
  # loss
  g = log_softmax(f) : f32[3x3]
  loss, count = nll_loss(g, y) {{reduction=mean, ignore_index=-100}} : f32[], f32[]
  one = constant() {{value=1.0}} : f32[]

backward:
  # loss
  dg = nll_loss_grad(one, y, count) {{reduction=mean, ignore_index=-100}} : f32[3x3]
  df = log_softmax_grad(dg, g) : f32[3x3]
  # fc
  de = linear_input_grad(df, fc.w) : f32[3x13]
  dfcw = linear_weight_grad(df, e) : f32[3x13]
  # flat
  dd = view(de) : f32[3x13x1x1]
  # pool
  dc = adaptive_avg_pool2d_grad(dd) : f32[3x13x7x7]
  # relu
  db = relu_grad(dc, c) : f32[3x13x7x7]
  # bn
  dgamma, dbeta = batch_norm_grad_stats(db, a, mean, var) {{eps=1e-05}} : f32[13], f32[13]
  da = batch_norm_input_grad(db, a, mean, var, gamma, dgamma, dbeta) {{eps=1e-05}} : f32[3x13x7x7]
  # conv
  dconvw = conv2d_weight_grad(da, x) {CONV} : f32[13x5x3x3]

update:
  zero = constant() {{value=0.0}} : f32[]
  conv.w1, m.conv1 = sgd(conv.w, dconvw, m.conv, step, lr, zero, zero, zero) \
{{nesterov=false, maximize=false}} : f32[13x5x3x3], f32[13x5x3x3]
  gamma1, m.gamma1 = sgd(gamma, dgamma, m.gamma, step, lr, zero, zero, zero) \
{{nesterov=false, maximize=false}} : f32[13], f32[13]
  fc.w1, m.fc1 = sgd(fc.w, dfcw, m.fc, step, lr, zero, zero, zero) \
{{nesterov=false, maximize=false}} : f32[3x13], f32[3x13]
  step1 = increment(step) : i64[]

return loss
next conv.w = conv.w1
next m.conv = m.conv1
next gamma = gamma1
next m.gamma = m.gamma1
next fc.w = fc.w1
next m.fc = m.fc1
next step = step1
"""

# One quantized convolution in all three directions beside an exempt one.
QUANTIZED = f"""
program low
after by_hand
input x : f32[2x3x7x7]
input dy : f32[2x13x7x7]
input s : f32[]
state w : f32[13x3x3x3]
state v : f32[1x13x1x1]
state alpha : f32[]

forward:
  # body.conv
  clip = sawb_clip(w) {{c1=12.68, c2=12.8}} : f32[]
  wq = quantize(w, clip) : int4*t[13x3x3x3]
  xq = quantize(x, alpha) : uint4*t[2x3x7x7]
  y = conv2d(xq, wq) {CONV} : bf16[2x13x7x7]
  # body.relu
  z = relu(y) : bf16[2x13x7x7]
  # last
  vb = cast(v) : bf16[1x13x1x1]
  o = conv2d(z, vb) {{stride=[1,1], padding=[0,0], dilation=[1,1], groups=1}} : bf16[2x1x7x7]

backward:
  # body.conv
  gs = grad_scale(dy, s) : f32*p[2x13x7x7]
  ge = round_log(gs) {{up=1.6, tie=up, underflow=uniform}} : fp4.even*p[2x13x7x7]
  go = round_log(gs) {{up=1.6, tie=up, underflow=uniform}} : fp4.odd*p[2x13x7x7]
  dx = conv2d_input_grad(ge, wq) {CONV} : bf16[2x3x7x7]
  dw = conv2d_weight_grad(go, xq) {CONV} : f32[13x3x3x3]
  # body.relu
  dz = relu_grad(dy, z) : f32[2x13x7x7]

return o, dx, dw, dz
"""
