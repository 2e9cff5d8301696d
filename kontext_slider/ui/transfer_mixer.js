// What is computed before the picture is drawn, so that its shader takes fewer samples of each pixel: the detail enlarged
// to the columns of the canvas, and where the picture has one strength, the transfer at that strength.
// Samples without: 6 of affine maps and 18 of detail; with one strength: 3 and 3; with a strength map: 6 and 6.
const MOST_BYTES = 128e6; // of what is kept for a strength map
const MIX_SHADER = `
uniform sampler2DArray affine;
uniform vec3 neighbours;
layout(location = 0) out vec4 red;
layout(location = 1) out vec4 green;
layout(location = 2) out vec4 blue;

vec4 mixed(int channel) {
  ivec3 lower = ivec3(ivec2(gl_FragCoord.xy), 3 * int(neighbours.x) + channel);
  ivec3 upper = ivec3(lower.xy, 3 * int(neighbours.y) + channel);
  return mix(texelFetch(affine, lower, 0), texelFetch(affine, upper, 0), neighbours.z);
}

void main() {
  red = mixed(0);
  green = mixed(1);
  blue = mixed(2);
}`;

const COLUMNS_SHADER = `
uniform sampler2DArray detail;
uniform vec3 neighbours;
uniform vec2 place; // of the photograph in the target: left and width, pixels
out vec4 colour;

vec4 tap(float x, float layer) {
  return textureLod(detail, vec3(x, gl_FragCoord.y / float(textureSize(detail, 0).y), layer), 0.0);
}

vec4 row(vec3 x, vec3 weights, float layer) {
  return weights.x * tap(x.x, layer) + weights.y * tap(x.y, layer) + weights.z * tap(x.z, layer);
}

void main() {
  vec3 x, weights;
  cubicTaps(clamp((gl_FragCoord.x - place.x) / place.y, 0.0, 1.0), float(textureSize(detail, 0).x), x, weights);
  colour = mix(row(x, weights, neighbours.x), row(x, weights, neighbours.y), neighbours.z);
}`;

class TransferMixer {
  #gl;
  #format = null; // of the targets; null: this browser draws into none that would do
  #bytes = 16; // of a pixel there
  #framebuffer = null;
  #programs = {};
  #place = ""; // that was prepared last, or asked for
  #targets = {}; // name -> {texture, size, content}

  constructor(gl) {
    this.#gl = gl;
    const isWhole = gl.getExtension("EXT_color_buffer_float");
    const isHalf = isWhole || gl.getExtension("EXT_color_buffer_half_float");
    const isExact = isWhole && gl.getExtension("OES_texture_float_linear");
    if (!isHalf) return;
    this.#format = isExact ? gl.RGBA32F : gl.RGBA16F;
    this.#bytes = isExact ? 16 : 8;
    this.#framebuffer = gl.createFramebuffer();
  }

  // {affine, detail, variants}: textures, and the variants of the shader that reads them, for `neighbours` ([lower layer,
  // upper layer, part]) of `layers`, and for a picture at `left` with `width` in a target with `columns`, pixels.
  // Binds another framebuffer.
  mix(layers, neighbours, { left, width }, columns) {
    if (!this.#format) return this.#asTheyAre(layers);
    const targets = this.#make("mixed", layers, columns, 1);
    this.#drawAffine(layers, neighbours, targets.affine.texture, 0);
    if (targets.detail) this.#drawDetail(layers, neighbours, targets.detail, 0, { left, width });
    return this.#result(targets, ["MIXED", "COLUMNS"]);
  }

  // The same for all strengths at once. It is kept until the transfers or the picture's place change, and made when a
  // place is drawn for the second time: while the picture is moved it would not pay.
  prepare(layers, { left, width }, columns) {
    const { affine, detail } = layers.sizes;
    const depth = 1 + Math.max(...layers.layers);
    const pixels = depth * (3 * affine.width * affine.height + (detail ? columns * detail.height : 0));
    const place = [layers.version, left, width, columns].join();
    const isAgain = place === this.#place;
    this.#place = place;
    if (!isAgain || !this.#format || pixels * this.#bytes > MOST_BYTES) return this.#asTheyAre(layers);
    const targets = this.#make("all", layers, columns, depth);
    const isNew = (target, content) => target.content !== content && ((target.content = content), true);
    if (isNew(targets.affine, layers.version + ""))
      for (const layer of layers.layers) this.#drawAffine(layers, [layer, layer, 0], targets.affine.texture, layer);
    if (targets.detail && isNew(targets.detail, place))
      for (const layer of layers.layers)
        this.#drawDetail(layers, [layer, layer, 0], targets.detail, layer, { left, width });
    return this.#result(targets, ["COLUMNS"]);
  }

  dispose() {
    for (const { texture } of Object.values(this.#targets)) this.#gl.deleteTexture(texture);
    for (const { program } of Object.values(this.#programs)) this.#gl.deleteProgram(program);
    this.#gl.deleteFramebuffer(this.#framebuffer);
  }

  #asTheyAre({ affine, detail }) {
    return { affine, detail, variants: [] };
  }

  #result({ affine, detail }, variants) {
    return { affine: affine.texture, detail: detail && detail.texture, variants };
  }

  // The targets by that name, for so many transfers.
  #make(name, { sizes: { affine, detail } }, columns, depth) {
    return {
      affine: this.#target(name + " affine", affine.width, affine.height, 3 * depth),
      detail: detail && this.#target(name + " detail", columns, detail.height, depth),
    };
  }

  #target(name, width, height, depth) {
    const gl = this.#gl;
    const size = [width, height, depth].join();
    const held = this.#targets[name];
    if (held && held.size === size) return held;
    if (held) gl.deleteTexture(held.texture);
    const texture = makeTexture(gl, gl.TEXTURE_2D_ARRAY, gl.LINEAR);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, this.#format, width, height, depth);
    return (this.#targets[name] = { texture, size, width, content: "" });
  }

  #drawAffine({ affine, sizes }, neighbours, target, layer) {
    const location = this.#use("affine", MIX_SHADER, affine);
    this.#gl.uniform3f(location("neighbours"), ...neighbours);
    this.#draw(target, [3 * layer, 3 * layer + 1, 3 * layer + 2], sizes.affine);
  }

  #drawDetail({ detail, sizes }, neighbours, target, layer, { left, width }) {
    const location = this.#use("detail", COLUMNS_SHADER, detail);
    this.#gl.uniform3f(location("neighbours"), ...neighbours);
    this.#gl.uniform2f(location("place"), left, width);
    this.#draw(target.texture, [layer], { width: target.width, height: sizes.detail.height });
  }

  // The uniforms of a program, which reads the texture `name`.
  #use(name, shader, texture) {
    const gl = this.#gl;
    this.#programs[name] ||= shaderProgram(gl, shader);
    const { program, location } = this.#programs[name];
    gl.useProgram(program);
    bindTextures(gl, location, [[name, gl.TEXTURE_2D_ARRAY, texture]]);
    return location;
  }

  // Into these layers of a target, one for each output of the program.
  #draw(target, layers, { width, height }) {
    const gl = this.#gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.#framebuffer);
    const outputs = [0, 1, 2].map((index) => gl.COLOR_ATTACHMENT0 + index);
    outputs.forEach((output, index) => {
      const isUsed = index < layers.length;
      gl.framebufferTextureLayer(gl.FRAMEBUFFER, output, isUsed ? target : null, 0, isUsed ? layers[index] : 0);
    });
    gl.drawBuffers(outputs.slice(0, layers.length));
    gl.viewport(0, 0, width, height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}
