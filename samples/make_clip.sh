#!/bin/sh
# Makes samples/clip/album.mp4 out of samples/pictures/: a camera moves over each photograph, the colours are taken away,
# and the film is aged: grain, flicker of the lamp, dust and scratches, a vignette. The sound is a synthetic projector
# with a tune. Seeded: the same picture comes out each time.
set -eu
cd "$(dirname "$0")"
mkdir -p clip
move() { # picture, expression of the horizontal and vertical place
    echo "scale=960:-2,zoompan=z='1.05+0.0012*on':x='$1':y='$2':d=62:s=720x576:fps=25,setsar=1"
}
ffmpeg -v error -y -i pictures/astronaut.jpg -i pictures/chelsea.jpg -i pictures/coffee.jpg -i pictures/rocket.jpg \
    -f lavfi -i "anoisesrc=color=brown:amplitude=0.05:seed=3:duration=9.92" \
    -f lavfi -i "aevalsrc='0.12*sin(2*PI*t*(330+110*mod(floor(t*2),3)))*exp(-3*mod(t,0.5))':d=9.92" \
    -filter_complex "[0]$(move '(iw-iw/zoom)/2' '(ih-ih/zoom)*on/200')[a];[1]$(move '(iw-iw/zoom)*on/100' '(ih-ih/zoom)/2')[b];
        [2]$(move '(iw-iw/zoom)*(1-on/120)' '(ih-ih/zoom)/2')[c];[3]$(move '(iw-iw/zoom)/2' '(ih-ih/zoom)*(1-on/90)')[d];
        [a][b][c][d]concat=n=4,format=gray,noise=alls=9:allf=t:all_seed=7,
        eq=eval=frame:brightness='0.02*sin(t*37)+0.012*sin(t*91)',vignette=PI/5,
        drawbox=x='230+6*sin(t*9)':y=0:w=1:h=ih:color=white@0.35:t=fill:enable='lt(mod(t,2.1),0.5)',
        drawbox=x='500+4*sin(t*13)':y=0:w=1:h=ih:color=black@0.4:t=fill:enable='lt(mod(t,3.3),0.6)',format=yuv420p[v];
        [4][5]amix=inputs=2[s]" \
    -map '[v]' -map '[s]' -c:v libx264 -preset slow -crf 30 -c:a aac -b:a 64k -fflags +bitexact -flags:v +bitexact \
    -flags:a +bitexact clip/album.mp4
