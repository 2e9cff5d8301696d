// The edit as a fragment shader: transfer.py's `picture = A photograph + b + detail` for one pixel. Affine maps are
// enlarged bilinearly and the detail bicubically (a = -0.5), as there; taps beyond the edge do not count, as there.
// Variants are chosen by #define, as software renderers run both sides of a branch.
const VERTEX_SHADER = `#version 300 es
void main() { // one triangle over all
  gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}`;

// Catmull-Rom (a = -0.5) along one axis in three taps: the two in the middle are one linear tap between them.
const CUBIC_TAPS = `
void cubicTaps(float at, float size, out vec3 places, out vec3 weights) {
  float middle = at * size - 0.5, t = floor(middle), f = middle - t;
  float w0 = step(1.0, t) * f * (-0.5 + f * (1.0 - 0.5 * f));
  float w1 = step(0.0, t) * (1.0 + f * f * (-2.5 + 1.5 * f));
  float w2 = step(t, size - 2.0) * f * (0.5 + f * (2.0 - 1.5 * f));
  float w3 = step(t, size - 3.0) * f * f * (-0.5 + 0.5 * f);
  places = vec3(t - 0.5, t + 0.5 + w2 / (w1 + w2), t + 2.5) / size;
  weights = vec3(w0, w1 + w2, w3) / (w0 + w1 + w2 + w3);
}`;

const FRAGMENT_SHADER = `
uniform sampler2D photograph, tile, strengthMap, table;
uniform sampler2DArray affine, detail; // MIXED: of one strength; COLUMNS: detail is as wide as the target
uniform vec2 rows;          // of the target: y of the picture = rows.x + rows.y * y of the fragment
uniform vec4 place;         // of the photograph in the target: left, top, width, height in pixels
uniform vec4 tilePlace;     // of the tile in the photograph: left, top, width, height in [0, 1]
uniform vec2 levels;        // of the mipmaps of photograph and tile
uniform vec3 neighbours;    // layers of both, and the part of the upper one
uniform vec3 strengths;     // overall, first, last
uniform float split;        // column; left of it the photograph is untouched
out vec4 colour;

vec3 sourceAt(vec2 at) {
  vec3 source = textureLod(photograph, at, levels.x).rgb;
#ifdef TILE
  vec2 inTile = (at - tilePlace.xy) / tilePlace.zw;
  vec3 sharp = textureLod(tile, inTile, levels.y).rgb;
  if (all(equal(inTile, clamp(inTile, 0.0, 1.0)))) source = sharp;
#endif
  return source;
}

vec3 neighboursAt(vec2 at) {
#ifdef STRENGTH_MAP
  float strength = strengths.x * textureLod(strengthMap, at, 0.0).r;
  float steps = float(textureSize(table, 0).x);
  float walked = steps * clamp((strength - strengths.y) / max(strengths.z - strengths.y, 1e-6), 0.0, 1.0);
  float start = min(floor(walked), steps - 1.0);
  vec4 entry = texelFetch(table, ivec2(int(start), 0), 0);
  return vec3(entry.xy, mix(entry.z, entry.w, walked - start));
#else
  return neighbours;
#endif
}

vec4 layered(sampler2DArray transfers, vec2 at, float perTransfer, float more, vec3 between) {
#ifdef MIXED
  return textureLod(transfers, vec3(at, more), 0.0);
#else
  vec4 lower = textureLod(transfers, vec3(at, perTransfer * between.x + more), 0.0);
  return mix(lower, textureLod(transfers, vec3(at, perTransfer * between.y + more), 0.0), between.z);
#endif
}

float mapped(vec2 at, float channel, vec3 between, vec4 source) {
  return dot(layered(affine, at, 3.0, channel, between), source);
}

vec3 detailRow(vec3 x, vec3 weights, float y, vec3 between) {
#ifdef COLUMNS
  return layered(detail, vec2(gl_FragCoord.x / float(textureSize(detail, 0).x), y), 1.0, 0.0, between).rgb;
#else
  return weights.x * layered(detail, vec2(x.x, y), 1.0, 0.0, between).rgb
    + weights.y * layered(detail, vec2(x.y, y), 1.0, 0.0, between).rgb
    + weights.z * layered(detail, vec2(x.z, y), 1.0, 0.0, between).rgb;
#endif
}

vec3 detailAt(vec2 at, vec3 between) {
  vec3 x, y, across, down;
  cubicTaps(at.x, float(textureSize(detail, 0).x), x, across);
  cubicTaps(at.y, float(textureSize(detail, 0).y), y, down);
  return down.x * detailRow(x, across, y.x, between) + down.y * detailRow(x, across, y.y, between)
    + down.z * detailRow(x, across, y.z, between);
}

vec3 heat(vec3 difference) {
  float at = 4.0 * clamp(max(max(difference.r, difference.g), difference.b) / FULL_HEAT, 0.0, 1.0);
  vec3 low = mix(HEAT_0, mix(HEAT_1, HEAT_2, clamp(at - 1.0, 0.0, 1.0)), min(at, 1.0));
  return mix(low, mix(HEAT_3, HEAT_4, max(at - 3.0, 0.0)), clamp(at - 2.0, 0.0, 1.0));
}

void main() {
  vec2 pixel = vec2(gl_FragCoord.x, rows.x + rows.y * gl_FragCoord.y);
  vec2 exact = (pixel - place.xy) / place.zw, at = clamp(exact, 0.0, 1.0);
  vec3 source = sourceAt(at), between = neighboursAt(at);
  vec4 one = vec4(source, 1.0);
  vec3 edited = vec3(mapped(at, 0.0, between, one), mapped(at, 1.0, between, one), mapped(at, 2.0, between, one));
#ifdef DETAIL
  edited += detailAt(at, between);
#endif
  edited = clamp(edited, 0.0, 1.0);
#ifdef DIFFERENCE
  edited = heat(abs(edited - source));
#endif
#ifdef SHOWN_MAP
  edited = mix(edited, vec3(0.9, 0.1, 0.15), 0.6 * textureLod(strengthMap, at, 0.0).r);
#endif
  float inside = float(all(equal(at, exact)));
  colour = vec4(pixel.x < split ? source : edited, 1.0) * inside;
}`;

const FULL_HEAT = 0.5; // the difference of a channel, in [0, 1], that has the hottest colour
const HEAT = ["#000004", "#57106e", "#bc3754", "#f98e09", "#fcffa4"]; // matplotlib's inferno, from no difference on

function heatDefines() {
  const parts = (colour) => [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255).toFixed(5));
  const colours = HEAT.map((colour, index) => `#define HEAT_${index} vec3(${parts(colour).join(", ")})\n`);
  return `#define FULL_HEAT ${FULL_HEAT.toFixed(5)}\n` + colours.join("");
}

function compileShader(gl, program, kind, source) {
  const shader = gl.createShader(kind);
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  gl.attachShader(program, shader);
  return shader;
}

// A program of a fragment shader with the given variants ("TILE", "STRENGTH_MAP", "DETAIL", "DIFFERENCE",
// "SHOWN_MAP", "MIXED", "COLUMNS"), and its uniforms by name.
function shaderProgram(gl, source, variants = []) {
  const program = gl.createProgram();
  const defines = variants.map((name) => `#define ${name}\n`).join("") + heatDefines();
  const head = "#version 300 es\nprecision highp float;\nprecision highp sampler2DArray;\n" + defines + CUBIC_TAPS;
  compileShader(gl, program, gl.VERTEX_SHADER, VERTEX_SHADER);
  const fragment = compileShader(gl, program, gl.FRAGMENT_SHADER, head + source);
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost())
    throw new Error("The shader of the picture failed: " + gl.getShaderInfoLog(fragment) + gl.getProgramInfoLog(program));
  const locations = new Map();
  const location = (name) => {
    if (!locations.has(name)) locations.set(name, gl.getUniformLocation(program, name));
    return locations.get(name);
  };
  return { program, location };
}

// Let a program read textures: [[name of the sampler, target, texture]].
function bindTextures(gl, location, textures) {
  textures.forEach(([name, target, texture], unit) => {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(target, texture);
    gl.uniform1i(location(name), unit);
  });
  gl.activeTexture(gl.TEXTURE0 + textures.length); // where uploads bind theirs
}
