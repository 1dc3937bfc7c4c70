#!/usr/bin/env python3
"""The pages that unfade writes, in a real browser: pages.py UNFADE SOURCE. Needs chromium, its driver and selenium; without them it is skipped (77)."""
import os, shutil, subprocess, sys, tempfile

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.chrome.service import Service
except ImportError:
    sys.exit(77)
if not shutil.which('chromium') or not shutil.which('chromedriver') or not shutil.which('ffmpeg'):
    sys.exit(77)

UNFADE, SOURCE = sys.argv[1:3]


def open_browser(w, h):
    o = webdriver.ChromeOptions()
    o.binary_location = shutil.which('chromium')
    for a in ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', f'--window-size={w},{h}'):
        o.add_argument(a)
    o.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    return webdriver.Chrome(service=Service(shutil.which('chromedriver')), options=o)


def check(ok, what):
    if not ok:
        print('FAILED:', what)
        sys.exit(1)


def common(b, page):
    b.get('file://' + page)
    for i in b.find_elements(By.TAG_NAME, 'img'):
        check(b.execute_script('return arguments[0].complete && arguments[0].naturalWidth > 0', i), 'a picture does not load: ' + i.get_attribute('alt'))
    asked = [e for e in b.get_log('performance') if '"Network.requestWillBeSent"' in e['message']]
    away = [e['message'] for e in asked if '"url":"data:' not in e['message'] and '"url":"file://' + page not in e['message']]
    check(not away, 'the page asks for something else: ' + ''.join(away)[:300])
    severe = [e['message'] for e in b.get_log('browser') if e['level'] == 'SEVERE']
    check(not severe, 'the browser complains: ' + ' '.join(severe)[:300])


def report(b, page):
    common(b, page)
    pairs = b.find_elements(By.CSS_SELECTOR, '.pair')
    check(len(pairs) == 3, f'{len(pairs)} pairs instead of 3')
    for p in pairs:
        slider, after = p.find_element(By.TAG_NAME, 'input'), p.find_element(By.CSS_SELECTOR, '.after')
        shown = lambda: b.execute_script('return getComputedStyle(arguments[0]).clipPath', after)
        check('50%' in shown(), 'the slider does not begin in the middle: ' + shown())
        slider.send_keys(Keys.ARROW_RIGHT)
        check('51%' in shown(), 'the arrow key does not move the picture: ' + shown())
        slider.send_keys(Keys.END)
        check('100%' in shown(), 'the End key does not move the picture: ' + shown())
    check(b.execute_script('var v=document.querySelector("video");return v && !v.error'), 'the film is not in the page')
    check('&lt;b&gt;' in b.page_source, 'a name with < in it is not written as text')


def sound(b, page):
    common(b, page)
    waves = b.find_elements(By.CSS_SELECTOR, '.wave img')
    check(len(waves) == 2, f'{len(waves)} spectrograms instead of 2')
    slider = b.find_element(By.CSS_SELECTOR, '.wave input')
    slider.send_keys(Keys.END)
    check('100%' in b.execute_script('return getComputedStyle(arguments[0]).clipPath', waves[1]), 'the slider does not move the spectrogram')
    ready = b.execute_async_script('var done=arguments[0],all=[...document.querySelectorAll("audio")],n=0;'
                                   'if(all.length!=2)done("players: "+all.length);'
                                   'all.forEach(a=>{var f=()=>{if(++n==2)done(all.map(x=>x.duration.toFixed(1)).join(" "))};a.readyState?f():a.onloadedmetadata=f;'
                                   'a.onerror=()=>done("error")})')
    check(ready == '2.0 2.0', 'the recordings do not play: ' + ready)


def merged(b, page):
    common(b, page)
    for e in b.find_elements(By.CSS_SELECTOR, 'picture img'):
        check(b.execute_script('return arguments[0].getBoundingClientRect().height > 15', e), 'a chart is flat: ' + e.get_attribute('alt'))
    wide = b.execute_script('return innerWidth > 34 * 16')
    small = b.execute_script('return document.querySelector("picture img").currentSrc == document.querySelector("source").srcset')
    check(small != wide, 'the charts are not those for this width')
    takes = [e.text for e in b.find_elements(By.CSS_SELECTOR, '.takes li')]
    check(len(takes) == 2 and '<i>one&.wav' in takes[0], 'the recordings are not named: ' + ' '.join(takes))
    slider = b.find_element(By.CSS_SELECTOR, '.wave input')
    slider.send_keys(Keys.END)
    check('100%' in b.execute_script('return getComputedStyle(document.querySelector(".wave .after")).clipPath'), 'the slider does not move the spectrogram')
    ready = b.execute_async_script('var done=arguments[0],a=document.querySelector("audio"),f=()=>done(a.duration.toFixed(0));a.onerror=()=>done("error");a.readyState?f():a.onloadedmetadata=f')
    check(ready == '24', 'the result does not play: ' + ready)
    b.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [{'name': 'prefers-color-scheme', 'value': 'dark'}]})
    dark = b.execute_script('return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector(".chart")).filter]')
    check(dark[0] == 'rgb(22, 22, 22)' and 'invert' in dark[1], 'no dark page for dark rooms: ' + ' '.join(dark))
    b.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})


with tempfile.TemporaryDirectory() as d:
    grey, colour, page = (os.path.join(d, n) for n in ('grey.mkv', '<b>colour.mp4', 'report.html'))
    subprocess.run(['ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', 'testsrc2=s=320x240:r=25:d=1', '-pix_fmt', 'gray', '-c:v', 'ffv1', grey], check=True)
    told = os.path.join(d, 'told.html')
    subprocess.run([UNFADE, 'colorize', '-q', '--size', '64', '--deflicker', '--report', told, grey, colour], check=True)
    subprocess.run([UNFADE, 'report', '-q', '-n', '3', grey, colour, page], check=True)
    seen = os.path.join(d, 'inspect.html')
    subprocess.run([UNFADE, 'inspect', '-q', os.path.join(SOURCE, 'models/weights/color.safetensors'), os.path.join(SOURCE, 'samples/pictures'), '--out', seen], check=True)
    heard = os.path.join(d, 'sound.html')
    for name, loud in (('noisy.wav', '0.3'), ('clean.wav', '0.01')):
        subprocess.run(['ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', f'anoisesrc=d=2:r=16000:a={loud}', os.path.join(d, name)], check=True)
    subprocess.run([UNFADE, 'report', '-q', os.path.join(d, 'noisy.wav'), os.path.join(d, 'clean.wav'), heard], check=True)
    one, two, told_merge = (os.path.join(d, n) for n in ('<i>one&.wav', 'two.wav', 'merge.html'))
    bursts = "aevalsrc='0.5*(random(0)-0.5)*(0.02+max(0,sin(3*t)+sin(4.3*t)+sin(7.13*t)+sin(11.9*t)+sin(0.31*t*t)-0.9))':s=16000:d=24"
    subprocess.run(['ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', bursts, one], check=True)
    subprocess.run(['ffmpeg', '-v', 'error', '-ss', '1', '-i', one, two], check=True)
    subprocess.run([UNFADE, 'merge', '-q', '--music', one, two, '-o', os.path.join(d, 'merged.wav'), '--report', told_merge], check=True)
    for w, h in ((1200, 900), (400, 800)):
        b = open_browser(w, h)
        try:
            report(b, page)
            wide = b.execute_script('return document.documentElement.scrollWidth - document.documentElement.clientWidth')
            check(wide <= 0, f'the report is {wide} pixels too wide for {w}')
            if len(sys.argv) > 3:
                b.save_screenshot(os.path.join(sys.argv[3], f'report-{w}.png'))
            sound(b, heard)
            wide = b.execute_script('return document.documentElement.scrollWidth - document.documentElement.clientWidth')
            check(wide <= 0, f'the page of sound is {wide} pixels too wide for {w}')
            merged(b, told_merge)
            wide = b.execute_script('return document.documentElement.scrollWidth - document.documentElement.clientWidth')
            check(wide <= 0, f'the page of merge is {wide} pixels too wide for {w}')
            common(b, told)
            check('--deflicker' in b.find_element(By.TAG_NAME, 'ul').text, 'what was asked for is not told')
            common(b, seen)
            wide = b.execute_script('return document.documentElement.scrollWidth - document.documentElement.clientWidth')
            check(wide <= 0, f'the page of inspect is {wide} pixels too wide for {w}')
        finally:
            b.quit()
print('the pages of report, merge and inspect: pictures, sliders, keys, nothing from elsewhere, fit for a phone')
