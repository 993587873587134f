const d = require('fs').readFileSync('/dev/stdin', 'utf8').split(/\s+/).map(Number);
console.log(d[0] + d[1]);
