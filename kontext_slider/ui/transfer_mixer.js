// One strength for the whole picture: its transfer is computed once at the transfer's own size, and its detail enlarged to
// the columns of the canvas, before the picture is drawn. The picture's shader then takes 3 + 3 samples, not 6 + 18.
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
  #format; // of the targets; null: this browser draws into none that would do
  #framebuffer;
  #programs = {};
  #targets = {}; // name -> {texture, key}

  constructor(gl) {
    this.#gl = gl;
    const isWhole = gl.getExtension("EXT_color_buffer_float");
    const isHalf = isWhole || gl.getExtension("EXT_color_buffer_half_float");
    const isExact = isWhole && gl.getExtension("OES_texture_float_linear");
    this.#format = isExact ? gl.RGBA32F : isHalf ? gl.RGBA16F : null;
    if (this.isPossible) this.#framebuffer = gl.createFramebuffer();
  }

  get isPossible() {
    return this.#format !== null;
  }

  // Textures {affine, detail} for `neighbours` ([lower layer, upper layer, part]) of `layers`, and for a picture at `left`
  // with `width` in a target with `columns`, pixels. Binds another framebuffer.
  mix(layers, neighbours, { left, width }, columns) {
    const { affine, detail } = layers.sizes;
    const mixed = this.#target("affine", affine.width, affine.height, 3);
    const use = this.#use("affine", MIX_SHADER, mixed, layers.affine, affine, 3);
    this.#gl.uniform3f(use("neighbours"), ...neighbours);
    this.#gl.drawArrays(this.#gl.TRIANGLES, 0, 3);
    if (!detail) return { affine: mixed, detail: null };
    const enlarged = this.#target("detail", columns, detail.height, 1);
    const location = this.#use("detail", COLUMNS_SHADER, enlarged, layers.detail, { width: columns, height: detail.height }, 1);
    this.#gl.uniform3f(location("neighbours"), ...neighbours);
    this.#gl.uniform2f(location("place"), left, width);
    this.#gl.drawArrays(this.#gl.TRIANGLES, 0, 3);
    return { affine: mixed, detail: enlarged };
  }

  dispose() {
    for (const { texture } of Object.values(this.#targets)) this.#gl.deleteTexture(texture);
    for (const { program } of Object.values(this.#programs)) this.#gl.deleteProgram(program);
    this.#gl.deleteFramebuffer(this.#framebuffer);
  }

  #target(name, width, height, depth) {
    const gl = this.#gl;
    const key = [width, height].join();
    const held = this.#targets[name];
    if (held && held.key === key) return held.texture;
    if (held) gl.deleteTexture(held.texture);
    const texture = makeTexture(gl, gl.TEXTURE_2D_ARRAY, gl.LINEAR);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, this.#format, width, height, depth);
    this.#targets[name] = { texture, key };
    return texture;
  }

  // Draw with a program from `source` into all layers of `target`. Returns the program's uniforms by name.
  #use(name, shader, target, source, { width, height }, depth) {
    const gl = this.#gl;
    this.#programs[name] ||= shaderProgram(gl, shader);
    const { program, location } = this.#programs[name];
    gl.useProgram(program);
    bindTextures(gl, location, [[name, gl.TEXTURE_2D_ARRAY, source]]);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.#framebuffer);
    for (let layer = 0; layer < 3; layer++)
      gl.framebufferTextureLayer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + layer, layer < depth ? target : null, 0, layer);
    gl.drawBuffers([0, 1, 2].slice(0, depth).map((layer) => gl.COLOR_ATTACHMENT0 + layer));
    gl.viewport(0, 0, width, height);
    return location;
  }
}
