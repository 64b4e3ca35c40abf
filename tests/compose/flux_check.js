// Reads a JSON list of Flux texts from standard input; writes, for each, whether InfluxData's own analyser takes it.
const {Flux} = require("@influxdata/flux-lsp-node");
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map((text) => new Flux(text).is_valid())));
